"""Make a prompt file for `curation.filters.zero_shot` with open_clip, where that is installed and has
weights.

    python tools/embed_prompts.py --model ViT-L-14 --pretrained openai --out prompts.json [--prompts my.json]

Needs open_clip (pip install open_clip_torch), which is no dependency of this project, and its weights. The
prompts are those below, or a JSON file {group: [prompt, ...]} of groups keep, art, unnatural and watermark.
Each is embedded in TEMPLATES, the mean of which counts. The image encoder must be the same model's, as ONNX:
`--encoder clip.onnx` exports it (float32, images x 3 x size x size -> embeddings); size, mean and standard
deviation to put into the configuration are printed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from curation.filters.zero_shot import Prompts, read_prompts
from shards.config import parse_config

TEMPLATES = ("{}", "a photo of {}", "an image of {}")
PROMPTS = {
    "keep": ("a photograph of a person", "a candid photo taken with a camera", "a selfie"),
    "art": (
        *("a painting of a person", "a cartoon", "an anime drawing", "a pencil sketch", "a statue"),
        *("a 3D render", "a video game screenshot"),
    ),
    "unnatural": (
        *("a collage of photos", "a meme with text", "a poster", "a magazine cover"),
        *("a screenshot of a phone", "a mannequin", "a doll"),
    ),
    "watermark": ("a stock photo with a watermark", "a photo covered with repeated watermark text"),
}


def embed(model: Any, tokenizer: Any, prompts: dict[str, tuple[str, ...]]) -> dict[str, list[dict[str, Any]]]:
    """Group -> [{prompt, embedding}]: the mean over templates of embeddings of length 1."""
    import torch

    found: dict[str, list[dict[str, Any]]] = {}
    with torch.no_grad():
        for group, texts in prompts.items():
            found[group] = []
            for text in texts:
                tokens = tokenizer([template.format(text) for template in TEMPLATES])
                mean = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1).mean(dim=0)
                found[group].append({"prompt": text, "embedding": [round(x, 7) for x in mean.tolist()]})
    return found


def export(model: Any, size: int, path: Path) -> None:
    """The image encoder as ONNX, batch left open."""
    import torch

    class Images(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            embedding: torch.Tensor = model.encode_image(image)
            return embedding

    torch.onnx.export(
        Images(),
        (torch.zeros(1, 3, size, size),),
        str(path),
        input_names=["image"],
        output_names=["embedding"],
        dynamic_axes={"image": {0: "n"}, "embedding": {0: "n"}},
        dynamo=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--pretrained", required=True)
    parser.add_argument("--prompts", type=Path, default=None)
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(given.model, pretrained=given.pretrained)
    model.eval()
    prompts = json.loads(given.prompts.read_bytes()) if given.prompts else PROMPTS
    content = {
        "format": "vitruvian-prompts",
        "version": 1,
        "model": f"{given.model}/{given.pretrained}",
        "temperature": float(1 / model.logit_scale.exp()),
        "groups": embed(model, open_clip.get_tokenizer(given.model), prompts),
    }
    parse_config(content, Prompts, str(given.out))
    given.out.write_text(json.dumps(content) + "\n")
    read_prompts(given.out)
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    if given.encoder:
        export(model, size, given.encoder)
    settings = {"size": size, "mean": model.visual.image_mean, "std": model.visual.image_std}
    print(json.dumps(settings | {"interpolation": "bicubic", "resize": "crop"}))


if __name__ == "__main__":
    main()
