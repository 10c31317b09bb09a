"""The pipeline file: what is right is resolved, what is wrong is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.errors import CtkitError, RequestError
from ctkit.pipeline_file.pipeline import Pipeline
from ctkit.runner import pipeline_text
from ctkit.session.document import document_of

MINIMAL = """\
[run]
name = "test"

[dataset]
use = "phantom"

[[reduce]]
use = "all"
"""


def read(tmp_path: Path, text: str, *overrides: str) -> Pipeline:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return pipeline_text.load(path, plugins.load(), overrides)


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(CtkitError) as caught:
        read(tmp_path, text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    pipeline = read(tmp_path, MINIMAL)
    assert pipeline.run.name == "test"
    assert pipeline.dataset.entry.name == "phantom"
    assert [arm.id for arm in pipeline.arms] == ["all"]
    assert list(pipeline.seeds) == [42]


def test_no_path_gets_into_the_name_of_an_arm(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "Mueller_Hans.pt").touch()
    arm = '[[reduce]]\nuse = "embedding"\nbackbone = "scans/Mueller_Hans.pt"\nthreshold = 0.1\n'
    assert read(tmp_path, f"{MINIMAL}\n{arm}").arms[1].id == "embedding-0.1"


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ('use = "hash"', "hash"),
        ('use = "hash"\nthreshold = 4', "hash-4"),
        ('use = "hash"\nscope = "patient"', "hash-patient"),
        ('use = "random"\nkeep = { share = 0.1 }', "random-share-0.1"),
        ('use = "random"\nkeep = { like = "all" }', "random-like-all"),
        ('use = "every-n"\nid = "tenth"', "tenth"),
        ('[[reduce.steps]]\nuse = "every-n"\nn = 2\n[[reduce.steps]]\nuse = "hash"', "every-n-2-then-hash"),
    ],
)
def test_an_arm_is_named_by_its_id_or_its_parameters(tmp_path: Path, arm: str, name: str) -> None:
    assert read(tmp_path, f"{MINIMAL}\n[[reduce]]\n{arm}\n").arms[1].id == name


def test_the_unreduced_arm_is_the_reference_wherever_it_stands(tmp_path: Path) -> None:
    text = MINIMAL.replace('[[reduce]]\nuse = "all"', '[[reduce]]\nuse = "hash"\n\n[[reduce]]\nuse = "all"')
    assert read(tmp_path, text).reference.id == "all"


def test_a_path_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    text = MINIMAL.replace('use = "phantom"', 'use = "lidc-idri"\nroot = "scans"')
    assert read(tmp_path, text).dataset.build().root == tmp_path / "scans"


def test_overrides_reach_tables_by_number_and_by_id(tmp_path: Path) -> None:
    text = MINIMAL + '\n[[reduce]]\nid = "h"\nuse = "hash"\n'
    pipeline = read(tmp_path, text, "reduce.h.threshold=3", "reduce.0.id=everything", "run.seeds=2", "dataset.size=64")
    assert pipeline.arms[1].steps[0].at == 3
    assert pipeline.arms[0].id == "everything"
    assert list(pipeline.seeds) == [42, 43]
    assert pipeline.rendering.size == 64


def test_a_task_may_name_several_protocols(tmp_path: Path) -> None:
    text = MINIMAL + '[[pretrain]]\nuse = "simclr"\n[[task]]\nuse = "phantom-lesions"\nprotocol = ["linear", "knn"]\n'
    assert [plan.protocol.entry.name for plan in read(tmp_path, text).tasks] == ["linear", "knn"]


BASELINE = MINIMAL + '[[pretrain]]\nuse = "simclr"\nbackbone = "resnet18"\n[[baseline]]\n'


def test_a_baseline_has_random_weights_of_the_network_that_is_pre_trained(tmp_path: Path) -> None:
    (baseline,) = read(tmp_path, BASELINE).baselines
    assert (baseline.id, baseline.method.entry.name) == ("untrained", "untrained")
    assert baseline.method.params.model_dump() == {"backbone": "resnet18", "init": None, "mean_std": None}
    (named,) = read(tmp_path, BASELINE + 'id = "deep"\nbackbone = "resnet34"\n').baselines
    assert (named.id, named.method.params.backbone) == ("deep", "resnet34")


def test_a_task_can_score_a_baseline_alone(tmp_path: Path) -> None:
    pipeline = read(tmp_path, MINIMAL + '[[baseline]]\nbackbone = "resnet18"\n[[task]]\nuse = "phantom-lesions"\n')
    assert (len(pipeline.pretrains), len(pipeline.baselines), len(pipeline.tasks)) == (0, 1, 1)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("[[baseline]]", "baseline[1]: there are two of 'untrained'"),
        ('id = "all"', "baseline[0]: an arm is also called 'all'"),
        ('init = "none.pth"', "pipeline.toml:13: baseline[0].init: no such file or folder: none.pth"),
        ('innit = "none.pth"', "baseline[0].innit: unknown key; did you mean 'init'?"),
        (
            '[[pretrain]]\nuse = "moco"',
            "baseline[0]: name a backbone: the [[pretrain]] tables have resnet18 and resnet50",
        ),
    ],
)
def test_a_wrong_baseline_is_named(tmp_path: Path, more: str, expected: str) -> None:
    assert expected in complaint(tmp_path, f"{BASELINE}{more}\n")


def test_the_resolved_document_resolves_to_itself(tmp_path: Path) -> None:
    text = MINIMAL + '\n[[reduce]]\nuse = "hash"\nthreshold = 4\n'
    document = document_of(read(tmp_path, text))
    assert document["reduce"][1]["steps"][0]["threshold"] == 4
    assert document["dataset"]["use"] == "ctkit-ssl:phantom"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("[run]", "[runn]"), "pipeline.toml:1: runn: unknown key; did you mean 'run'?"),
        (('name = "test"', 'name = "test"\nsede = 1'), "pipeline.toml:3: run.sede: unknown key; did you mean 'seed'?"),
        (
            ('name = "test"', 'name = "test"\nseed = "x"'),
            "pipeline.toml:3: run.seed: must be a whole number but is 'x'",
        ),
        (('name = "test"', 'name = "te/st"'), "pipeline.toml:2: run.name: must consist of letters a to z, digits"),
        (('name = "test"', ""), "pipeline.toml:1: run.name: is required but missing"),
        (('use = "phantom"', 'use = "fantom"'), "pipeline.toml:5: dataset.use: there is no dataset 'fantom'; did you"),
        (('use = "phantom"', ""), "pipeline.toml:4: dataset.use: must name a dataset but is missing"),
        (('use = "phantom"', 'use = "phantom"\nsize = 9999'), "pipeline.toml:6: dataset.size: must be less"),
        (
            ('use = "phantom"', 'use = "phantom"\nintensity = "hu-windw"'),
            "pipeline.toml:6: dataset.intensity: must be 'hu-window', 'lung',",
        ),
        (
            ('use = "phantom"', 'use = "phantom"\nintensity = { centre = 40, widht = 80 }'),
            "pipeline.toml:6: dataset.intensity",
        ),
        (
            ('use = "phantom"', 'use = "lidc-idri"\nroot = "nowhere"'),
            "pipeline.toml:6: dataset.root: no such file or folder: nowhere",
        ),
        (
            ('use = "all"', 'use = "al"'),
            "pipeline.toml:8: reduce[0].use: there is no reducer 'al'; did you mean 'all'?",
        ),
        (
            ('use = "all"', 'use = "hash"\ntreshold = 6'),
            "pipeline.toml:9: reduce[0].treshold: unknown key; did you mean 'threshold'?",
        ),
        (
            ('use = "all"', 'use = "hash"\nthreshold = 80'),
            "pipeline.toml:9: reduce[0].threshold: must be in 0..64 bits but is 80",
        ),
        (
            ('use = "all"', 'use = "hash"\nthreshold = 6.5'),
            "pipeline.toml:9: reduce[0].threshold: must be a whole number but is 6.5",
        ),
        (
            ('use = "all"', 'use = "hash"\nthreshold = 6\nkeep = { share = 0.1 }'),
            "pipeline.toml:9: reduce[0].threshold: give either threshold or keep, not both",
        ),
        (('use = "all"', 'use = "all"\nkeep = { share = 0.1 }'), "reduce[0].keep: all has no knob"),
        (('use = "all"', 'use = "random"'), "pipeline.toml:7: reduce[0]: random needs share"),
        (
            ('use = "all"', 'use = "random"\nkeep = { share = 2 }'),
            "pipeline.toml:9: reduce[0].keep.share: must be less",
        ),
        (('use = "all"', 'use = "random"\nkeep = {}'), "pipeline.toml:9: reduce[0].keep: must hold exactly one of"),
        (
            ('use = "all"', 'use = "random"\nkeep = { like = "hsh" }\n[[reduce]]\nuse = "hash"'),
            "pipeline.toml:9: reduce[0].keep.like: there is no arm 'hsh'; did you mean 'hash'?",
        ),
        (
            ('use = "all"', 'use = "random"\nid = "r"\nkeep = { like = "r" }'),
            "reduce[0].keep.like: arm 'r' takes its size from itself",
        ),
        (
            ('use = "all"', 'use = "hash"\nscope = "galaxy"'),
            "pipeline.toml:9: reduce[0].scope: must be 'volume', 'patient' or 'dataset' but is 'galaxy'",
        ),
        (('use = "all"', ""), "pipeline.toml:7: reduce[0]: give either use"),
        (('use = "all"', 'use = "all"\n[[reduce]]\nuse = "all"'), "reduce[1]: there are two of 'all'"),
        (('use = "all"', 'use = "all"\n[[reduce]]\nuse = "all"\nid = "ALL"'), "reduce[1]: there are two of 'ALL'"),
        (('use = "all"', 'use = "all"\nid = "arm.json"'), "reduce[0]: 'arm.json' is a name of files"),
        (('use = "all"', 'use = "all"\nid = "draw-3"'), "reduce[0]: 'draw-3' is a name of files"),
        (('use = "all"', 'use = "all"\n[[task]]\nuse = "phantom-lesions"'), "task[0]: a task needs a [[pretrain]]"),
        (("[[reduce]]", "[reduce]"), "reduce: must be tables, each under [[reduce]]"),
        (("[[reduce]]", "[[reduce]"), "not valid TOML"),
        (
            ('use = "all"', 'use = "all"\n[[pretrain]]\nuse = "simclr"\nepochs = 2\nsteps = 3'),
            "pretrain[0]: give either epochs or steps",
        ),
        (
            ('use = "all"', 'use = "all"\n[[pretrain]]\nuse = "simclr"\nbackbone = "resnet19"'),
            "pipeline.toml:11: pretrain[0].backbone",
        ),
        (
            ('use = "all"', 'use = "all"\n[compute]\nscheduler = "tcp://x:1"'),
            'compute: scheduler needs backend = "dask"',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1].replace("\n", " ")[:40],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    message = complaint(tmp_path, MINIMAL.replace(*change))
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dataset.size", "--set needs KEY=VALUE"),
        ("reduce.hsah.threshold=1", "there is no 'hsah'"),
        ("dataset.sise=64", "dataset.sise: unknown key; did you mean 'size'?"),
        ("run.name.x=1", "run.name is not a table"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in complaint(tmp_path, MINIMAL, override)


def test_a_missing_file_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read the pipeline file"):
        pipeline_text.load(tmp_path / "none.toml", plugins.load())


def test_a_file_without_a_data_set_says_what_to_add(tmp_path: Path) -> None:
    assert "dataset: is required but missing: add [dataset]" in complaint(tmp_path, '[run]\nname = "x"\n')


# --- [plugins]


def test_a_disabled_plugin_is_not_there_for_that_file_alone(tmp_path: Path) -> None:
    text = f'{MINIMAL}\n[plugins]\ndisable = ["all", "their-notifier"]\n'
    assert "there is no reducer 'all'" in complaint(tmp_path, text)
    assert read(tmp_path, MINIMAL).arms[0].id == "all"


def test_a_misspelt_name_to_disable_is_said(tmp_path: Path) -> None:
    text = f'{MINIMAL}\n[plugins]\ndisable = ["ctkit-tensorbord"]\n'
    assert complaint(tmp_path, text) == (
        "pipeline.toml:11: plugins.disable[0]: there is no plugin 'ctkit-tensorbord'; did you mean 'ctkit-tensorboard'?"
    )


@pytest.mark.parametrize(
    ("required", "said"),
    [
        ("ctkit-ssl>=0.1", ""),
        ("numpy", ""),
        (
            "ctkit-ssl>=2",
            "ctkit-ssl is required in version >=2 but the version here is 0.1.0: pip install 'ctkit-ssl>=2'",
        ),
        ("ctkit-none>1", "ctkit-none is required in version >1 but it is not installed: pip install 'ctkit-none>1'"),
        (">=1", "must be a distribution and its versions, such as \"ctkit-barlow-twins>=1.2\" but is '>=1'"),
    ],
    ids=str,
)
def test_versions_that_a_file_requires_are_compared(tmp_path: Path, required: str, said: str) -> None:
    text = f"{MINIMAL}\n[plugins]\nrequire = ['{required}']\n"
    if not said:
        assert read(tmp_path, text).rules.require == (required,)
        return
    assert complaint(tmp_path, text) == f"pipeline.toml:11: plugins.require[0]: {said}"
