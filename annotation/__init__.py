"""What a label is: camera, codecs, vocabularies, self-checks, pictures. See docs/conventions.md."""
