"""Getting a pretrained network and its preprocessing from a folder, the local cache or the hub, or one error that says why not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmbench.errors import ConfigError

HUB_TIMEOUT = 10.0  # seconds, for the one question whether the hub is there and knows the name
UNUSED = ("pooler", "masked_spec_embed")
"""Parameters that need not be in a checkpoint: they are removed, or (SpecAugment) start at random."""


class Source:
    """Where a model comes from: its name as given, the folder or hub name to load, and whether the network may be asked.

    `component` is named in every error. Raises `ConfigError` for a path that is no folder.
    """

    def __init__(self, component: str, name: str):
        self.component, self.name = component, name
        folder = Path(name).expanduser()
        self.local = folder.is_dir()
        self.path = str(folder) if self.local else name
        if not self.local and (folder.exists() or name[0] in "./~\\" or name.count("/") > 1 or "\\" in name):
            raise ConfigError(f"{component}: model {name!r}: no such folder; `model` takes a folder with a model, or a name on the hub")

    def load(self, reader: Any, check: Callable[[Any], None] | None = None, **options: Any) -> Any:
        """``reader.from_pretrained`` of this source: what is on this machine first, then the hub.

        `check` raises on something that loads and is of no use. Raises `ConfigError`.
        """

        def read(local: bool) -> Any:
            with _quiet():
                found = reader.from_pretrained(self.path, local_files_only=local, trust_remote_code=False, **options)
            if check is not None:
                check(found)
            return found

        try:
            return read(local=True)
        except Exception as error:
            if self.local:
                raise ConfigError(
                    f"{self.component}: model {self.name!r}: the folder holds nothing that {reader.__name__} can load ({explain(error)}); it needs "
                    "config.json, model.safetensors, and the tokenizer's files or preprocessor_config.json, as save_pretrained writes them"
                ) from error
        self._ask_hub()
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # else transformers asks the hub, in a thread, to convert older weights
        try:
            return read(local=False)
        except Exception as error:
            raise self.unavailable(error) from error

    def _ask_hub(self) -> None:
        """One question with a time limit, since the hub's client repeats a failed one for a minute and asks again for each file."""
        from huggingface_hub import HfApi, constants

        try:
            if constants.HF_HUB_OFFLINE:
                raise OSError("HF_HUB_OFFLINE is set")
            HfApi().model_info(self.name, timeout=HUB_TIMEOUT)
        except Exception as error:
            raise self.unavailable(error) from error

    def unavailable(self, error: Exception) -> ConfigError:
        """The error of a name that is neither on this machine nor to be had from the hub."""
        return ConfigError(
            f"{self.component}: model {self.name!r}: weights could not be had: no folder of this name, not in the local cache, and not from "
            f"the hub ({explain(error)}). Check the name, or download the model where there is a network and set `model` to its folder"
        )


def import_transformers() -> Any:
    """transformers, or a `ConfigError` that says why it cannot be imported."""
    try:
        import transformers
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(f"transformers cannot be imported: {explain(error)}") from error
    return transformers


def explain(error: BaseException) -> str:
    """Type and first words of an error; where libraries cannot be loaded, that torch and torchaudio do not fit together."""
    text = " ".join(str(error).split())[:200]
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ImportError, OSError)) and not isinstance(cause, ModuleNotFoundError) and ".so" in str(cause):
            return f"torch and torchaudio are of different builds; install both from one place, in one version ({type(error).__name__}: {text})"
        cause = cause.__cause__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def load_network(source: Source, tower: str | None = None, **overrides: Any) -> Any:
    """The encoder in float32 without its pooling head, its `config` changed by `overrides`. A weight that the checkpoint lacks is an error.

    `tower`: the entry of a model's config that holds the config of the part to take, where it has such parts.
    """
    transformers = import_transformers()
    config = source.load(transformers.AutoConfig)
    config = getattr(config, tower, config) if tower else config
    identity = config.to_dict()
    for name, value in overrides.items():
        setattr(config, name, value)
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "weights_only": True}
    network, info = source.load(transformers.AutoModel, config=config, **options)
    wrong = sorted(str(key[0] if isinstance(key, (tuple, list)) else key) for key in info["mismatched_keys"])
    wrong += sorted(key for key in info["missing_keys"] if not any(part in key for part in UNUSED))
    if wrong:
        raise ConfigError(
            f"{source.component}: model {source.name!r}: {len(wrong)} weights are missing in its checkpoint or of another shape than config.json "
            f"says, and would be random: {', '.join(wrong[:3])}{', ...' if wrong[3:] else ''}; take a checkpoint of the whole encoder"
        )
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # a head on the first token, which no output here reads
    network.float()
    return network, identity


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers and the hub's client; errors stay."""
    import huggingface_hub.utils as hub
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_verbosity, hub_bars = hub.logging.get_verbosity(), not hub.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.logging.set_verbosity_error()
    hub.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        hub.logging.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            hub.enable_progress_bars()
