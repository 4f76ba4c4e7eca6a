"""`python train.py` from outside: what it leaves, what it says, what it refuses."""

import math
import re
import shutil

import matplotlib.image
import pytest
import torch
from command import TINY, plain, results, rows, run, train, train_here
from composing import composed
from omegaconf import DictConfig, OmegaConf
from wandb_files import Run

from meta_hamiltonian import load
from meta_hamiltonian.evaluation.results import COLUMNS
from meta_hamiltonian.learners.checkpoint import SETTINGS_KEY

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef0123456789abcdef01234567"
UNTESTED = ("shots=5", "test.n_systems=1", "test.steps=0")  # as little as there can be, where only weights matter


@pytest.fixture(scope="module")
def maml(tmp_path_factory):
    """A run with every default but its size, with a W&B key in the environment that must not be kept."""
    folder = tmp_path_factory.mktemp("runs") / "maml"
    done = train(folder.parent / "home", *TINY, f"hydra.run.dir={folder}", "logger.mode=offline", WANDB_API_KEY=KEY)
    assert done.code == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The same learner by the same seed, without W&B; to be looked at, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "again"
    return folder, run(folder, "logger=none")


def test_a_run_leaves_everything_that_is_promised(maml):
    folder, _ = maml
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    figures = {
        f"figures/{kind}_k{k}.{form}" for kind in ("field", "orbit") for k in (25, 50) for form in ("png", "pdf")
    }
    expected = {"results.csv", "train.log", "checkpoints/best.ckpt", "checkpoints/last.ckpt", ".hydra/config.yaml"}
    assert expected | figures <= files
    for name in figures:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"%PDF")
        assert name.endswith("pdf") or matplotlib.image.imread(folder / name)[..., :3].std() > 0.05, "it is not blank"


def test_the_results_have_a_row_for_every_k_and_number_of_steps(maml):
    folder, _ = maml
    table = rows(folder / "results.csv")
    assert list(table[0]) == list(COLUMNS)
    assert [(row["shots"], row["steps"]) for row in table] == [("25", "0"), ("25", "5"), ("50", "0"), ("50", "5")]
    for row in table:
        origin = ("pendulum", "hnn", "maml", "0", "5", "3")
        assert tuple(row[c] for c in ("system", "model", "algo", "seed", "inner_steps", "n_systems")) == origin
        assert all(math.isfinite(float(row[column])) for column in COLUMNS[3:])
        assert float(row["field_mse_mean"]) > 0


def test_the_user_is_told_the_results_and_where_they_lie(maml):
    folder, output = maml
    for row in rows(folder / "results.csv"):
        shown = f"{float(row['field_mse_mean']):.3g}"
        assert re.search(rf"^ *{row['shots']} +{row['steps']} +{re.escape(shown)} ", output, re.MULTILINE)
    assert "results.csv" in output
    assert str(folder.name) in output
    long = ("Everything lies", "W&B", "miss the field by")
    assert max(len(line) for line in output.splitlines() if not any(words in line for words in long)) <= 80
    log = (folder / "train.log").read_text()
    assert "Testing on 3 new systems" in log
    assert re.search(r"predictions of held-out systems miss the field by \d+%: train it for longer", log)


def test_the_wandb_run_holds_the_numbers_the_configuration_and_the_figures(maml):
    folder, output = maml
    tracked = Run(folder)
    for row in rows(folder / "results.csv"):
        prefix = f"test/k{row['shots']}/step{row['steps']}"
        for column, name in [
            ("field_mse_mean", "field_mse"),
            ("state_mse_mean", "state_mse"),
            ("energy_mse_mean", "energy_mse"),
            ("field_mse_median", "field_mse_median"),
            ("n_diverged", "n_diverged"),
        ]:
            assert tracked.last[f"{prefix}/{name}"] == pytest.approx(float(row[column]), rel=1e-6)
    assert math.isfinite(tracked.last["train/query_loss"])
    assert tracked.last["train/tasks_per_second"] > 0
    assert math.isfinite(tracked.last["val/query_loss"])
    for name in ("field_k25", "field_k50", "orbit_k25", "orbit_k50"):
        (image,) = tracked.last[f"figures/{name}/filenames"]
        assert (tracked.file.parent / "files" / image).read_bytes() == (folder / "figures" / f"{name}.png").read_bytes()
    table = tracked.table("results")
    written = rows(folder / "results.csv")
    assert [(row["shots"], row["steps"]) for row in table] == [(int(r["shots"]), int(r["steps"])) for r in written]
    assert [row["field_mse_mean"] for row in table] == pytest.approx([float(r["field_mse_mean"]) for r in written])
    resolved = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=True)
    assert tracked.config["algo"] == resolved["algo"]
    assert tracked.config["algo"]["inner_steps"] == 5, "resolved"
    assert tracked.config["data"]["meta_batch"] == 4
    assert (tracked.project, tracked.group, tracked.closed) == ("meta-hamiltonian", "", True)
    assert "offline" in output
    assert "wandb sync" in output


def test_no_key_is_written_anywhere(maml):
    folder, output = maml
    assert KEY not in output
    files = [path for path in [*folder.rglob("*"), *(folder.parent / "home").rglob("*")] if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def test_the_learner_of_a_run_is_loaded_and_used(maml):
    folder, _ = maml
    learner = load(folder)
    x = torch.rand(25, 2, dtype=torch.float64)
    adapted = learner.adapt(x, x, steps=10)
    assert adapted.rollout(torch.tensor([1.0, 0.0]), torch.linspace(0, 2, 5)).shape == (5, 2)
    assert adapted.energy(x).shape == (25,)


def test_a_checkpoint_is_tested_without_training(maml, tmp_path):
    """With the same numbers, from the folder or from the file, whatever else is asked for."""
    folder, _ = maml
    whole = results(folder)
    output = run(tmp_path / "a", f"ckpt_path={folder}", "logger=none", "model.width=32", "seed=7")
    assert results(tmp_path / "a") == whole
    assert not (tmp_path / "a" / "checkpoints").exists()
    assert "Meta-training" not in output
    run(tmp_path / "b", f"ckpt_path={folder}/checkpoints/best.ckpt", "logger=none", "shots=50", "test.steps=5")
    assert results(tmp_path / "b") == [whole[-1]]


def test_the_same_seed_gives_the_same_results(maml, again):
    assert results(again[0]) == results(maml[0])


def test_workers_do_not_change_the_results(maml, tmp_path):
    run(tmp_path / "a", "logger=none", "data.num_workers=2")
    assert results(tmp_path / "a") == results(maml[0])


def test_another_seed_gives_another_learner_on_the_same_test_systems(maml, tmp_path):
    run(tmp_path / "other", "logger=none", "seed=1")
    one, other = load(maml[0]), load(tmp_path / "other")
    assert not torch.equal(one.net.head.weight, other.net.head.weight)
    for a, b in zip(results(maml[0]), results(tmp_path / "other"), strict=True):
        assert (a["seed"], b["seed"]) == ("0", "1")
        assert a["field_mse_mean"] != b["field_mse_mean"]


def test_a_run_in_the_folder_of_a_finished_one_replaces_it_by_the_same_alone(maml, tmp_path):
    folder = tmp_path / "replaced"
    shutil.copytree(maml[0], folder)
    before = (folder / "checkpoints" / "best.ckpt").read_bytes()
    done = train_here(tmp_path / "home", *TINY, f"hydra.run.dir={folder}", "logger=none", "seed=1")
    assert done.code == 1
    assert re.search(r"last.ckpt is of a training with other settings \(seed\), and would be lost; give", done.stderr)
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == before
    assert "Going on" not in run(folder, "logger=none")
    for name in ("best", "last"):
        one, other = (load(f / "checkpoints" / f"{name}.ckpt") for f in (maml[0], folder))
        assert torch.equal(one.net.head.weight, other.net.head.weight)


@pytest.mark.parametrize(("algo", "plain_algorithm"), [("maml", False), ("anil", True)])
def test_both_backends_train_the_same_learner(algo, plain_algorithm, tmp_path):
    changes = ["algo.scale=none", "algo.learn_lr=false", "algo.lr=0.002"] if plain_algorithm else []
    common = [f"algo={algo}", "trainer.precision=64-true", "logger=none", *UNTESTED, *changes]
    for backend in ("vectorized", "learn2learn"):
        run(tmp_path / backend, f"algo.backend={backend}", *common)
    one, other = load(tmp_path / "vectorized").double(), load(tmp_path / "learn2learn").double()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=name)


def test_whether_a_step_was_compiled_is_kept_in_the_checkpoint(again):
    folder, said = again
    assert composed().compile == "auto"
    assert "compiled" not in said, "it is too short"
    kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)[SETTINGS_KEY]
    assert kept["algo"]["compile"] is False


def test_both_checkpoints_exist_after_a_single_step(tmp_path):
    run(tmp_path / "a", "logger=none", "trainer.max_steps=1", "model=mlp", *UNTESTED)
    for name in ("best", "last"):
        assert load(tmp_path / "a" / "checkpoints" / f"{name}.ckpt").inner_steps == 5
    assert results(tmp_path / "a")[0]["model"] == "mlp"


def test_an_endless_stream_of_tasks_and_a_csv_log(tmp_path):
    run(tmp_path / "a", "logger=csv", "data.tasks=null", "algo=anil", "shots=7", "inner_steps=2")
    table = rows(tmp_path / "a" / "csv" / "metrics.csv")
    assert sum(row["train/query_loss"] != "" for row in table) == 3
    (last,) = [row for row in table if row.get("test/k7/step5/field_mse")]
    (row,) = [row for row in results(tmp_path / "a") if row["steps"] == "5"]
    assert float(last["test/k7/step5/field_mse"]) == pytest.approx(float(row["field_mse_mean"]))
    assert (row["shots"], row["inner_steps"], row["algo"]) == ("7", "2", "anil")
    assert not (tmp_path / "a" / "wandb").exists()


def test_a_finished_run_that_is_resumed_keeps_its_weights_and_its_wandb_run(tmp_path):
    folder = tmp_path / "a"
    first = run(folder, "resume=true", "shots=5")
    assert "training starts anew" in first
    weights, whole, tracked = load(folder).state_dict(), results(folder), Run(folder).id
    second = run(folder, "resume=true", "shots=5")
    assert "Going on from step 6" in second
    assert results(folder) == whole
    for name, value in load(folder).state_dict().items():
        assert torch.equal(value, weights[name])
    assert {file.stem for file in folder.glob("wandb/offline-run-*/*.wandb")} == {f"run-{tracked}"}


REFUSED = [
    ("shots=0", "shots=0 is not allowed: give an integer of at least 1"),
    ("data.meta_batch=50", "data.meta_batch=50 is not allowed.*data.tasks=40"),
    ("ckpt_path=no/such/run", "ckpt_path=no/such/run is not allowed: .*does not exist"),
    ("shots=5,10", "shots=5,10 is not allowed for a single run: add -m, which runs one for each value"),
    ("data.path=pendulums", "there is no key data.path here: give system=recorded as well"),
    ("--config-dir=nowhere", "--config-dir is not allowed: there is no folder .*nowhere"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_a_value_that_is_not_allowed_is_refused_in_one_line(override, message, tmp_path):
    start = train if override == REFUSED[0][0] else train_here
    result = start(tmp_path / "home", *TINY, f"hydra.run.dir={tmp_path / 'run'}", override)
    assert result.code == 1
    (line,) = result.stderr.strip().splitlines()
    assert re.match(f"Error: {message}", line)
    assert result.stdout == ""
    assert not (tmp_path / "run").exists(), "nothing is written"


def leaves(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{prefix}{name}.")
        elif name != "_target_":
            yield f"{prefix}{name}"


def test_help_explains_every_key(tmp_path):
    result = train_here(tmp_path / "home", "--help")
    assert result.code == 0
    # What repeats another key.
    inherited = {"algo.inner_steps", "algo.compile", "algo.task_chunk"}
    missing = {key for key in leaves(composed()) if f"{key}=" not in result.stdout} - inherited
    assert not missing
    assert plain(result.stdout) == result.stdout, "no escape codes where nobody sees them"


def test_the_wandb_run_says_how_its_metrics_are_shown(maml):
    folder, _ = maml
    tracked = Run(folder)
    for name in ("train/query_loss", "val/query_loss"):
        shown = tracked.metrics[name]
        assert shown.step_metric == "trainer/global_step"
        assert (shown.summary.min, shown.summary.last) == (True, True)
    assert tracked.metrics["adaptation/*"].step_metric == "adaptation/steps"
    curve = [row for row in tracked.history if "adaptation/steps" in row]
    assert [row["adaptation/steps"] for row in curve] == [0, 5]
    for row in curve:
        step = row["adaptation/steps"]
        assert row["adaptation/k50/field_mse"] == tracked.last[f"test/k50/step{step}/field_mse"]
    assert tracked.kind == "train"


# Sweeps.


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "sweep"
    arguments = ["-m", *TINY, f"hydra.sweep.dir={folder}", "algo=maml,anil", "shots=25,50"]
    result = train_here(folder.parent / "home", *arguments, figures=("comparison",))
    assert result.code == 0, result.stderr
    return folder, result.stdout


def test_a_sweep_runs_every_job_and_leaves_one_summary(sweep):
    folder, _ = sweep
    table = rows(folder / "summary.csv")
    assert list(table[0]) == ["job", "overrides", "status", "error", *COLUMNS]
    expected = [(str(job), algo, k) for job, (algo, k) in enumerate((a, k) for a in ("maml", "anil") for k in (25, 50))]
    assert list(dict.fromkeys((row["job"], row["algo"], int(row["shots"])) for row in table)) == expected
    for row in table:
        (own,) = [r for r in rows(folder / row["job"] / "results.csv") if r["steps"] == row["steps"]]
        assert {column: row[column] for column in COLUMNS} == own
        assert row["status"] == "finished"
        assert f"shots={row['shots']}" in row["overrides"]
    text = (folder / "summary.md").read_text()
    assert "4 jobs, 0 failed" in text
    assert "| 3 | algo=anil shots=50 | finished |" in text
    assert "experiment=quick" not in text, "what all jobs share is left out"
    assert (folder / "figures" / "comparison.png").stat().st_size > 10_000
    assert (folder / "figures" / "comparison.pdf").exists()


def test_jobs_that_differ_only_in_what_is_tested_train_once(sweep):
    folder, output = sweep
    assert len([path for path in (folder / ".trainings").iterdir() if path.suffix != ".lock"]) == 2
    assert output.count("trained the same learner: its checkpoint is used") == 2
    for first, second in (("0", "1"), ("2", "3")):
        assert "is used" in (folder / second / "train.log").read_text()
        for name in ("best", "last"):
            one, other = (folder / job / "checkpoints" / f"{name}.ckpt" for job in (first, second))
            assert one.read_bytes() == other.read_bytes()
        trained = [
            "train/query_loss" in {name for row in Run(folder / job).history for name in row} for job in (first, second)
        ]
        assert trained == [True, False]


def test_every_job_is_a_closed_wandb_run_of_the_sweeps_group(sweep):
    folder, _ = sweep
    runs = [Run(folder / str(job)) for job in range(4)]
    assert {r.group for r in runs} == {f"{folder.parent.name}/{folder.name}"}
    assert len({r.id for r in runs}) == 4
    assert all(r.closed for r in runs)
    for r, (algo, k) in zip(runs, [("maml", 25), ("maml", 50), ("anil", 25), ("anil", 50)], strict=True):
        assert f"algo={algo}" in r.name
        assert f"shots={k}" in r.name
        assert f"test/k{k}/step5/field_mse" in r.last


def test_the_sweep_is_a_wandb_run_of_its_own(sweep):
    folder, _ = sweep
    own, (first, *_) = Run(folder), [Run(folder / "0")]
    assert own.kind == "sweep"
    assert own.group == first.group
    assert own.name == f"summary of {own.group}"
    assert own.closed
    assert (own.last["sweep/jobs"], own.last["sweep/finished"], own.last["sweep/failed"]) == (4, 4, 0)
    table, written = own.table("summary"), rows(folder / "summary.csv")
    assert [row["job"] for row in table] == [int(row["job"]) for row in written]
    assert [row["field_mse_mean"] for row in table] == pytest.approx([float(row["field_mse_mean"]) for row in written])
    assert own.last["sweep/best/field_mse_median"] == min(float(row["field_mse_median"]) for row in written)
    (image,) = own.last["figures/comparison/filenames"]
    assert (own.file.parent / "files" / image).read_bytes() == (folder / "figures" / "comparison.png").read_bytes()


def test_a_sweep_that_is_resumed_does_what_is_left(tmp_path):
    """Job 0 is finished, job 1 lost its tests, job 2 its training too; job 3 is new."""
    folder = tmp_path / "sweep"
    arguments = ("-m", *TINY, f"hydra.sweep.dir={folder}", "logger=none", *UNTESTED)
    assert train_here(tmp_path / "home", *arguments, "seed=0,1,2").code == 0
    whole = {job: (results(folder / job), load(folder / job).state_dict()) for job in "012"}
    for job in "12":
        (folder / job / ".finished.json").unlink()
        (folder / job / "results.csv").unlink()
    lost = next(path for path in folder.glob(".trainings/*") if (path / "finished").read_text() == "2")
    (lost / "finished").unlink()
    untouched = (folder / "0" / "results.csv").stat().st_mtime_ns
    done = train_here(tmp_path / "home", *arguments, "seed=0,1,2,3", "resume=true")
    assert done.code == 0, done.stderr
    assert done.stdout.count("is finished already.") == 1
    assert done.stdout.count("Job 1 of this sweep trained the same learner: its checkpoint is used.") == 1
    assert done.stdout.count("Going on from step 6 of") == 1
    assert (folder / "0" / "results.csv").stat().st_mtime_ns == untouched
    for job, (table, weights) in whole.items():
        assert results(folder / job) == table
        assert all(torch.equal(value, weights[name]) for name, value in load(folder / job).state_dict().items())
    assert {(row["job"], row["status"]) for row in rows(folder / "summary.csv")} == {(j, "finished") for j in "0123"}


def test_a_job_with_other_settings_in_the_same_folder_is_not_skipped(tmp_path):
    arguments = ("-m", *TINY, f"hydra.sweep.dir={tmp_path / 'sweep'}", "logger=none", "resume=true", *UNTESTED)
    assert train_here(tmp_path / "home", *arguments).code == 0
    done = train_here(tmp_path / "home", *arguments, "shots=6")
    assert "is finished already." not in done.stdout
    assert {row["shots"] for row in results(tmp_path / "sweep" / "0")} == {"6"}


def test_a_training_is_resumed_by_the_command_that_began_it_only(again, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(again[0], folder)
    file = folder / "checkpoints" / "last.ckpt"
    unfinished = torch.load(file, weights_only=True) | {"global_step": 3}
    torch.save(unfinished, file)
    again = (*TINY, "logger=none", f"hydra.run.dir={folder}")
    for arguments, message in (
        ((), r"resume=false is not allowed here: .*last.ckpt is of a training that ended at step 3 of 6; go on with"),
        (("resume=true", "seed=1"), r"resume=true is not allowed here: .*last.ckpt .* other settings \(seed\)"),
        (("resume=true", "optim.lr=0.5"), r"resume=true is not allowed here: .* other settings \(training\)"),
    ):
        done = train_here(tmp_path / "home", *again, *arguments)
        assert done.code == 1
        assert re.search(message, done.stderr), done.stderr
        assert torch.load(file, weights_only=True)["global_step"] == 3


def test_a_failing_job_is_named_and_the_others_run(tmp_path):
    folder = tmp_path / "sweep"
    changes = ["inner_steps=1,0,2", "logger=none", "algo=anil", "shots=5"]
    result = train_here(tmp_path / "home", "-m", *TINY, f"hydra.sweep.dir={folder}", *changes)
    assert result.code != 0
    assert "inner_steps=0 is not allowed" in result.stderr
    assert "Traceback" not in result.stderr
    table = rows(folder / "summary.csv")
    jobs = [(row["job"], row["status"]) for row in table if row["steps"] in ("", "5")]
    assert jobs == [("0", "finished"), ("1", "failed"), ("2", "finished")]
    (failed,) = [row for row in table if row["status"] == "failed"]
    assert failed["error"].startswith("inner_steps=0 is not allowed")
    assert {row["inner_steps"] for row in table} == {"1", "", "2"}
    assert "3 jobs, 1 failed" in (folder / "summary.md").read_text()
    assert result.stdout.count("Summary of the sweep") == 3, "it is rewritten as each job ends"


def test_the_families_of_a_mixture_are_reported_apart_too(tmp_path):
    """Together they make up the mean over all systems."""
    family = ("system=mixture", "system.of=[spring,duffing]", "algo=anil", "logger=none", "shots=25")
    run(tmp_path / "run", *family, "test.n_systems=12", "test.steps=1")
    (all_of_them,) = results(tmp_path / "run")
    apart = list(rows(tmp_path / "run" / "families.csv"))
    assert {row["system"] for row in apart} == {"spring", "duffing"}
    counts = [int(row["n_systems"]) for row in apart]
    assert sum(counts) == 12
    for column in ("field_mse_mean", "state_mse_mean"):
        mean = sum(n * float(row[column]) for n, row in zip(counts, apart, strict=True)) / 12
        assert mean == pytest.approx(float(all_of_them[column]), rel=1e-9)
