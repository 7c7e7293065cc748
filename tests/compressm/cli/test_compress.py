"""`compressm compress`: a folder in, a smaller one out; what is wrong is one line, no folder."""

import json
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compressm import KeepEnergy, States, compress_, load_pretrained
from compressm.checkpoints.pretrained import quiet
from compressm.compression import units
from compressm.experiments.rebuilding import rebuilt
from compressm.systems.find import selective_layers, stored_states
from tests.compressm.experiments.helpers import walks
from tests.compressm.helpers import model_of
from tests.compressm.language_models import FAMILIES, language_model, tokens


@pytest.fixture
def compress(call):
    """Return a function that runs `compressm compress` in an empty folder with tokens in x.npy."""
    np.save("x.npy", tokens().numpy())
    return partial(call, "compress")


@pytest.fixture
def saved(compress):
    """Return a function that saves a language model in the folder "big"."""

    def save(family="Mamba", **options):
        model = language_model(family, **options)
        with quiet():
            model.save_pretrained("big")
        return model

    return save


def contents(folder):
    return {path: path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def sizes(model):
    return [stored_states(layer) for _, layer in selective_layers(model)]


def generated(model):
    prompt = tokens(2, 5)
    mask = torch.ones_like(prompt)
    return model.generate(prompt, attention_mask=mask, max_new_tokens=6, do_sample=False)


# ------------------------------------------------------------------ models of transformers


QUICK = ("Mamba", "Mamba2", "NemotronH", "Qwen3Next")


@pytest.mark.parametrize(
    "family",
    [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in FAMILIES],
)
def test_a_folder_of_transformers_in_and_a_smaller_one_out(compress, saved, family):
    model = saved(family)
    before = contents("big")
    code, out, err = compress("big", "-o", "small", "--states", "8", "--data", "x.npy")
    assert (code, err) == (0, "")
    assert contents("big") == before and not list(Path().glob(".small*"))
    compress_(model, States(8), data=tokens().split(50))
    found, loading = transformers.AutoModelForCausalLM.from_pretrained(
        "small", output_loading_info=True
    )
    assert not any(loading.values())
    assert set(sizes(model)) == set(sizes(found)) == {8}
    assert torch.equal(generated(found), generated(model))
    assert torch.equal(found(tokens()).logits, model(tokens()).logits)
    lines = out.splitlines()
    assert max(map(len, lines[: lines.index("Written: small")])) <= 80
    assert out.count("16 → 8") == len(sizes(model))
    held = sum(p.numel() for p in model.parameters())
    assert f"→ {held:,}." in " ".join(out.split())


def test_the_table_counts_bytes_and_operations(compress, saved):
    model = saved()
    _, out, _ = compress("big", "-o", "small", "--states", "8", "--data", "x.npy")
    event = compress_(model, States(8), data=tokens().split(50))
    for cut in event.layers:
        row = next(line for line in out.splitlines() if line.startswith(cut.name))
        numbers = (cut.parameters[1], cut.state_bytes[1], cut.flops[1])
        assert row.split()[-3:] == [f"{x:,}" for x in numbers]
        assert f"{100 * cut.energy_kept:.4g}%" in row and f"{100 * cut.output_error:.2g}%" in row
    total = [sum(cut.state_bytes[i] for cut in event.layers) for i in (0, 1)]
    assert f"State of a sequence: {total[0]:,} → {total[1]:,} bytes." in out


def test_step_times_are_measured_when_asked(compress, saved, monkeypatch):
    saved()
    seconds = iter((0.5, 0.00125, 0.25, 0.002))
    monkeypatch.setattr(units, "step_seconds", lambda layer, u: next(seconds))
    argv = ("big", "--states", "8", "--data", "x.npy", "--dry-run")
    _, plain, _ = compress(*argv)
    assert "backward, ms" not in plain
    code, out, _ = compress(*argv, "--measure")
    assert code == 0 and not Path("small").exists()
    rows = out.split("backward, ms")[1].splitlines()[2:4]
    assert [row.split()[-2:] for row in rows] == [["500", "1.25"], ["250", "2"]]
    code, out, err = compress("big", "--states", "8", "--dry-run", "--measure")
    assert (code, out) == (2, "") and "give --data" in err


def uneven(model):
    """The model, of whose first layer three states matter, and of the second more."""
    layer = next(layer for _, layer in selective_layers(model))
    with torch.no_grad():
        layer.x_proj.weight[layer.time_step_rank + 3 :] *= 1e-6
    with quiet():
        model.save_pretrained("big")
    return model


def test_uneven_sizes_are_said_and_load_otherwise(compress, saved):
    uneven(saved())
    argv = ("big", "--energy", "0.9", "--data", "x.npy", "-o")
    code, out, err = compress(*argv, "small")
    assert (code, err) == (0, "") and "load this folder by compressm.load_pretrained" in out
    first, second = sizes(load_pretrained("small"))
    assert first < second < 16
    code, out, err = compress(*argv, "even", "--uniform")
    assert (code, err) == (0, "") and "load_pretrained" not in out
    assert set(sizes(transformers.AutoModelForCausalLM.from_pretrained("even"))) == {second}
    code, out, err = compress("small", "--states", "2", "--data", "x.npy", "-o", "smaller")
    assert code == 0 and set(sizes(load_pretrained("smaller"))) == {2}


def test_sizes_of_a_kernel(compress, saved):
    saved("Mamba2", state_size=40)
    code, _, _ = compress(
        "big", "-o", "small", "--energy", "0.4", "--data", "x.npy", "--sizes", "mamba2"
    )
    assert code == 0 and set(sizes(load_pretrained("small"))) <= {16, 32}
    code, _, _ = compress("big", "-o", "s", "--states", "30", "--data", "x.npy", "--sizes", "7,21")
    assert code == 0 and set(sizes(load_pretrained("s"))) == {21}


def test_what_belongs_to_the_model_goes_along(compress, saved):
    saved()
    tokenizer(Path("big"))
    settings = json.loads(Path("big/generation_config.json").read_text()) | {"temperature": 0.5}
    Path("big/generation_config.json").write_text(json.dumps(settings))
    for name in ("optimizer.pt", "trainer_state.json", "modeling_own.py"):
        Path("big", name).write_text("{}")
    assert compress("big", "-o", "small", "--states", "8", "--data", "x.npy")[0] == 0
    names = {path.name for path in Path("small").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "model.safetensors"} <= names
    assert not names & {"optimizer.pt", "trainer_state.json", "modeling_own.py"}
    assert json.loads(Path("small/generation_config.json").read_text())["temperature"] == 0.5


def tokenizer(folder):
    """A tokenizer of letters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    letters = Tokenizer(models.WordLevel({c: i for i, c in enumerate("?abcdefghij")}, "?"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    transformers.PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(folder)


def test_a_text_is_read_by_the_tokenizer_of_the_model(compress, saved):
    model = saved()
    tokenizer(Path("big"))
    x = tokens(8, 24).clamp(min=1)
    Path("x.txt").write_text("".join("?abcdefghij"[i] for i in x.flatten()) + "abc")
    code, out, err = compress(
        "big", "-o", "small", "--states", "8", "--data", "x.txt", "--length", "24"
    )
    assert (code, err) == (0, "")
    compress_(model, States(8), data=[x])
    assert torch.equal(load_pretrained("small")(x).logits, model(x).logits)


def test_a_dry_run_writes_nothing(compress, saved):
    saved()
    before = contents(".")
    for more in ((), ("-o", "small")):
        code, out, err = compress("big", "--states", "8", "--data", "x.npy", "--dry-run", *more)
        assert (code, err) == (0, "") and "16 → 8" in out and contents(".") == before


# ------------------------------------------------------------------ other models


def test_weights_with_the_function_that_builds_the_model(compress):
    model = model_of(d_state=12)
    torch.save(model.state_dict(), "weights.pt")
    np.save("x.npy", walks())
    code, out, err = compress("weights.pt", "-o", "small", "--energy", "0.9")
    assert (code, err) == (0, "") and "Assumed of the model: pool=mean" in out
    compress_(model, KeepEnergy(0.9))
    found = load_file("small/model.safetensors")
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[k], v) for k, v in model.state_dict().items())
    code, out, err = compress(
        "small", "-o", "next", "--states", "3", "--data", "x.npy", "--model",
        "tests.compressm.helpers:model_of",
    )  # fmt: skip
    assert code == 0 and "→ 3" in out


def test_the_folder_of_a_run(compress, tmp_path):
    model = model_of(d_input=1, d_output=10, d_state=12)
    recipe = (
        "data: digits\nd_model: 4\nd_state: 12\nn_layers: 2\nsteps: 3\nbatch_size: 2\nlr: 1e-3\n"
    )
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(recipe)
    save_file(
        {f"model.{k}": v for k, v in model.state_dict().items()}, "run/checkpoint.safetensors"
    )
    code, _, err = compress("run", "-o", "small", "--states", "4")
    assert (code, err) == (0, "")
    found, assumed = rebuilt("small/model.safetensors")
    assert assumed == "" and [block.layer.d_state for block in found.blocks] == [4, 4]


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("none -o small", "there is no folder or file none"),
        ("empty -o small", "empty holds no weights, which would be checkpoint.safetensors or"),
        ("headless -o small", "headless has no readable model.safetensors"),
        ("other -o small --data x.npy", "the weights in other do not fit MambaForCausalLM"),
        ("big -o big --data x.npy", "big exists; give a folder that does not exist"),
        ("big -o x.npy --data x.npy", "x.npy is a file"),
        ("big -o x.npy/small --data x.npy", "no folder can be made at x.npy/small"),
        ("big --data x.npy", "give -o SMALL, the folder to write, or --dry-run"),
        ("big -o small", "it is a selective layer; give --data"),
        ("big -o small --key a", "--key names an array of --data"),
        ("big -o small --data large.npy", "tokens from 0 to 99, and the model knows 0 to 10"),
        ("big -o small --data wide.npy", "the model does not accept the inputs"),
        ("big -o small --data none.npy", "none.npy cannot be read as arrays"),
        ("big -o small --data none.txt", "none.txt is no text"),
        ("big -o small --data words.txt", "big has no tokenizer that reads words.txt"),
        ("big -o small --data x.npy --sizes 64", "no layer can store 64 states"),
        ("big -o small --data x.npy --sizes 0", "is no list such as 16,32,64"),
        ("big -o small --data x.npy --sizes mamba4", "none of mamba, mamba2, mamba3, delta-rule"),
        ("big -o small --data x.npy --sizes 4 --multiple-of 4", "give one of them"),
        ("big -o small --data x.npy --energy 1", "nothing is written; nothing to remove at"),
        ("big -o small --data x.npy --error-bound 1", "no bound holds for a selective layer"),
        ("big -o small --data x.npy --states 8 --energy 0.9", "not allowed with argument"),
        ("attention -o small --data x.npy", "found no layer that compressm can read"),
        ("big -o small --data x.npy --model no.such:thing", "could not be called"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(compress, saved, argv, message, capsys):
    saved()
    for folder in ("empty", "headless", "other"):
        Path(folder).mkdir()
    for folder in ("headless", "other"):
        Path(folder, "config.json").write_bytes(Path("big/config.json").read_bytes())
    language_model("Mamba", hidden_size=16).save_pretrained("wider")
    Path("wider/model.safetensors").rename("other/model.safetensors")
    if argv.startswith("attention"):
        config = transformers.LlamaConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8,
        )  # fmt: skip
        transformers.LlamaForCausalLM(config).save_pretrained("attention")
    np.save("large.npy", np.arange(100).reshape(4, 25))
    np.save("wide.npy", np.zeros((2, 3, 4, 5)))
    Path("words.txt").write_text("abc")
    before = contents(".")
    capsys.readouterr()
    try:
        code, _, err = compress(*argv.split())
    except SystemExit as error:  # of argparse
        code, err = error.code, capsys.readouterr().err
    assert code == 2 and message in " ".join(err.split())
    assert err.startswith("usage:") or err.count("\n") == 1
    assert contents(".") == before and not Path("small").exists()


def test_tied_weights_need_not_be_in_the_file(compress, saved):
    saved(tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file("big/model.safetensors")
    code, _, _ = compress("big", "-o", "small", "--states", "8", "--data", "x.npy")
    found = transformers.AutoModelForCausalLM.from_pretrained("small")
    assert code == 0
    assert found.get_output_embeddings().weight is found.get_input_embeddings().weight


def test_untied_weights_must_be_in_the_file(compress, saved):
    saved(tie_word_embeddings=False)
    weights = load_file("big/model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, "big/model.safetensors", {"format": "pt"})
    code, _, err = compress("big", "-o", "small", "--states", "8", "--data", "x.npy")
    assert code == 2 and "lm_head.weight is missing" in err and not Path("small").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(compress, saved, monkeypatch, error):
    saved()
    before = contents(".")

    def full(model, place, **options):
        Path(place, "config.json").write_text("{}")
        raise error

    monkeypatch.setattr(transformers.MambaForCausalLM, "save_pretrained", full)
    code, _, err = compress("big", "-o", "small", "--states", "8", "--data", "x.npy")
    if isinstance(error, OSError):
        assert code == 2 and "No space left on device" in err and "small cannot be written" in err
    else:
        assert code == 130
    assert contents(".") == before and not list(Path().glob(".small*"))


def test_no_warning_of_python_reaches_the_terminal(compress, saved):
    uneven(saved())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compress("big", "-o", "small", "--energy", "0.9", "--data", "x.npy")
    assert not [x for x in caught if "compressm" in str(x.message)]
