"""Says what a file is instead of the expected one, from its first bytes."""

import re

# Where each kind of file has its signature, and what it is.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (0, b"BPG\xfb", "a BPG image"),
    (0, b"FLIF", "a FLIF image"),
    (0, b"qoif", "a QOI image"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\0\0\1\0", "a Windows icon"),
    (0, b"\0\0\2\0", "a Windows cursor"),
    (0, b"icns", "a macOS icon"),
    (0, b"v/1\1", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (128, b"DICM", "a DICOM image"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (40, b" EMF", "a Windows metafile"),
    (0, b"\x1a\x45\xdf\xa3", "a video file"),  # WebM, Matroska
    (4, b"moov", "a video file"),  # QuickTime, without a brand
    (4, b"mdat", "a video file"),
    (4, b"wide", "a video file"),
    (8, b"AVI ", "a video file"),
    (0, b"FLV\1", "a video file"),
    (0, b"\0\0\1\xba", "a video file"),  # MPEG
    (0, b"\0\0\1\xb3", "a video file"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video file"),  # WMV
    (0, b"OggS", "a sound or video file"),
    (0, b"ID3", "a sound file"),
    (0, b"fLaC", "a sound file"),
    (8, b"WAVE", "a sound file"),
    (0, b"PK\3\4", "a ZIP archive, or a document that is one"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\7", "a RAR archive"),
    (0, b"\x1f\x8b\x08", "a gzip archive"),
    (0, b"\xfd7zXZ\0", "an XZ archive"),
    (0, b"BZh", "a bzip2 archive"),
    (257, b"ustar", "a TAR archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"\0\5\x16\7", "a macOS file of attributes (its name begins with ._), not the picture"),
    (0, b"\0\5\x16\0", "a macOS file of attributes, not the picture"),
    (0, b"bplist00", "a macOS placeholder or property list, not the picture"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_TEXT = bytes(range(32, 127)) + b"\t\n\r"


def describe_foreign(head: bytes) -> str | None:
    """Says what a file is instead of the expected one, as the rest of a sentence, if known.

    Args:
        head: its first bytes, some hundred.
    """
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself; get it with: git lfs pull"
    if _start_of(head).startswith((b"<!doctype", b"<html", b"<head")):
        return "is a web page instead of the expected file; download it again"
    return None


def kind_of(head: bytes) -> str | None:
    """Returns what a file is that is no picture to paint, such as `a PDF document`, if known.

    Args:
        head: its first bytes, some hundred.
    """
    if brands := brands_of(head):
        return "a JPEG XL image" if b"jxl " in brands else "a video file"
    for at, signature, kind in _SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return kind
    start = _start_of(head)
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in head.lower()):
        return "an SVG drawing"
    if re.match(rb"P[1-7]\s", head):
        return "a PNM image"
    if not head.strip(b"\0"):
        return "nothing but zero bytes, as an interrupted copy or download leaves"
    is_text = len(head) > 3 and not head.translate(None, _TEXT)
    return "a text file" if is_text else None


def advice_for(kind: str) -> str:
    """Returns what to do with a kind of file that `kind_of` has found."""
    if "video" in kind:
        return "export one of its frames as PNG first"
    if "archive" in kind:
        return "unpack it first"
    if any(word in kind for word in ("text", "sound", "program", "macOS file", "zero", "list")):
        return "check the path, and copy or download the picture again"
    return "export it as PNG or JPEG first"


def brands_of(head: bytes) -> set[bytes]:
    """Returns the brands of an ISO base media file (HEIF, AVIF, MP4); none of another file."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def heif_kind_of(head: bytes) -> str | None:
    """Returns `AVIF` or `HEIC` for such an image, None for anything else."""
    brands = brands_of(head)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def _start_of(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:20].lower()
