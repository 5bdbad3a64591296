"""What readers make of jobs: values with their places, refusals with place, value and what is allowed."""

from __future__ import annotations

import pytest

from tests.launch.runs import FILES, JOBS
from vlcheck.config.load import load
from vlcheck.gpus import GIB
from vlcheck.launch.job import Job
from vlcheck.launch.mounted import load_for
from vlcheck.launch.read import job_of_mapping, read_job, with_requirements
from vlcheck.spec import ConfigError

SOUND = [path for path in FILES if path.name.startswith("sound") and path.parent.name != "launch"]


def shown(job: Job) -> dict[str, object]:
    names = ("gpu", "gpu_count", "cpu", "memory_bytes", "timeout_seconds", "retries", "region", "tasks", "spot")
    return {name: getattr(job, name).value for name in names if getattr(job, name) is not None}


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("cloud-run/sound-v1.yaml",
         {"gpu": "nvidia-rtx-pro-6000", "gpu_count": 1, "cpu": 20, "memory_bytes": 96 * GIB, "timeout_seconds": 21600,
          "retries": 3, "region": "europe-west4", "tasks": 1}),
        ("cloud-run/sound-v2.json",
         {"gpu": "nvidia-rtx-pro-6000", "gpu_count": 1, "cpu": 20, "memory_bytes": 96 * GIB, "timeout_seconds": 21600,
          "retries": 2, "region": "us-central1", "tasks": 1}),
        ("gcloud/sound-deploy.sh",
         {"gpu": "nvidia-rtx-pro-6000", "gpu_count": 1, "cpu": 20, "memory_bytes": 96 * GIB, "timeout_seconds": 21600,
          "retries": 3, "region": "europe-west4"}),
        ("terraform/sound-planned.json",
         {"gpu": "nvidia-rtx-pro-6000", "gpu_count": 1, "cpu": 20, "memory_bytes": 96 * GIB, "timeout_seconds": 21600,
          "retries": 3, "region": "europe-west4", "tasks": 1}),
        ("kubernetes/sound-claim.yaml",
         {"gpu": "nvidia-h100-80gb", "gpu_count": 1, "cpu": 16, "memory_bytes": 128 * GIB, "timeout_seconds": 28800,
          "retries": 4}),
        ("skypilot/sound-spot.yaml",
         {"gpu": "H100", "gpu_count": 1, "cpu": 16, "memory_bytes": 128 * GIB, "retries": 2, "spot": True}),
        ("modal/sound-retries.py",
         {"gpu": "H100", "gpu_count": 1, "cpu": 16, "memory_bytes": 128 * GIB, "timeout_seconds": 21600, "retries": 3}),
        ("aws-batch/sound-definition.json",
         {"gpu_count": 1, "cpu": 16, "memory_bytes": 128 * GIB, "timeout_seconds": 28800, "retries": 2}),
        ("sagemaker/sound-spot.json",
         {"gpu": "h100", "gpu_count": 1, "cpu": 16, "memory_bytes": 256 * GIB, "timeout_seconds": 28800, "retries": 3,
          "spot": True}),
        ("runpod/sound-v1.json",
         {"gpu": "NVIDIA H100 80GB HBM3", "gpu_count": 1, "cpu": 16, "memory_bytes": 125 * GIB}),
        ("runpod/sound-v2.json", {"gpu": "NVIDIA H100 80GB HBM3", "gpu_count": 1}),
    ],
)  # fmt: skip
def test_a_job_is_read_whole(file, values):
    assert shown(read_job(JOBS / file)) == values


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.relative_to(JOBS).as_posix())
def test_every_format_says_mounts_command_and_secrets(path):
    """Each value has a place in the file; the token is filled from a store, or is not there."""
    job = read_job(path)
    placed = [job.gpu, job.cpu, job.timeout_seconds, *job.command, *job.env.values()]

    assert "/mnt/out" in {mount.path for mount in job.mounts}
    assert [word.value for word in job.command][:2] == ["vlcheck", "train"]
    assert not any("TOKEN" in name for name in job.env)
    assert all(str(path) == each.where.file and each.where.line >= 1 for each in placed if each is not None)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.name != "launch"], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_a_job_is_no_config(path):
    """`vlcheck audit` names `preflight`."""
    with pytest.raises(ConfigError, match="vlcheck preflight"):
        load(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("job.yaml", "apiVersion: batch/v1\nkind: Job\nspec:\n  backoffLimit: many\n",
         "job.yaml:4:3: spec.backoffLimit is \"many\"; allowed: a number from 0"),
        ("job.yaml", "apiVersion: batch/v1\nkind: Job\nspec:\n  template: {spec: {containers: none}}\n",
         "allowed: a list"),
        ("job.sh", "gcloud run jobs create x --image y --memory lots\n",
         "job.sh:1:45: --memory is \"lots\"; allowed: an amount of memory"),
        ("job.sh", "echo hello\n", "is a shell script that makes no job"),
        ("job.yaml", "a: 1\nb: 2\n", "unknown job, top-level keys: a, b; allowed: Cloud Run job"),
        ("plan.json", '{"terraform_version": "1.9", "planned_values": {}}', "the plan has no google_cloud_run_v2_job"),
        ("job.py", "import modal\n", "has no Modal function"),
        ("job.py", "import modal\ndef f(:\n", "it is no Python"),
        ("job.py", "import modal\napp = modal.App()\n@app.function(gpu='H100:x')\ndef f(): ...\n", "allowed: a card"),
    ],
)  # fmt: skip
def test_a_job_of_no_use_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_job(tmp_path / name)

    assert message in str(refused.value)


def test_a_mapping_is_read_as_its_file_would_be():
    job = job_of_mapping({"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 2}}, "job")

    assert job.retries is not None
    assert (job.retries.value, job.retries.where.key) == (2, "spec.backoffLimit")


def test_what_a_decorator_unpacks_is_read_where_it_stands_in_the_file(tmp_path):
    """What does not is not taken for unset: the job is judged as one of which a part is known."""
    script = (
        "import modal\napp = modal.App()\nMORE = {{'timeout': 1200}}\n@app.function(gpu='H100', **{0})\ndef f(): ...\n"
    )
    (tmp_path / "known.py").write_text(script.format("MORE"))
    (tmp_path / "unknown.py").write_text(script.format("options()"))
    known, unknown = read_job(tmp_path / "known.py"), read_job(tmp_path / "unknown.py")

    assert known.timeout_seconds is not None
    assert (known.timeout_seconds.value, known.timeout_seconds.where.line, known.whole) == (1200, 3, True)
    assert (unknown.timeout_seconds, unknown.whole, unknown.mounts_told) == (None, False, False)
    assert unknown.remarks == ("what the decorator unpacks (**) is known only when the file runs",)


def test_a_dockerfile_gives_base_folder_packages_and_entry_point(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "torch==2.11.0  # pinned\n-r other.txt\ntrl >= 1.0 ; python_version > '3'\n"
    )
    (tmp_path / "train.py").write_text(
        "from trl import SFTConfig\nSFTConfig(warmup_ratio=0.1)\ntrainer.train(resume_from_checkpoint=True)\n"
    )
    (tmp_path / "Dockerfile").write_text(
        "FROM python:3.12 AS build\nFROM nvidia/cuda:12.4.1-runtime\nWORKDIR /app\nENV OUT=/mnt/out\n"
        "RUN pip install --no-cache-dir 'peft>=0.21' \\\n    && pip install -r requirements.txt\n"
        'ENTRYPOINT ["python", "/app/train.py"]\n'
    )
    job = job_of_mapping({"apiVersion": "batch/v1", "kind": "Job", "spec": {}})
    job = with_requirements(job, tmp_path / "Dockerfile")

    assert job.base is not None
    assert job.base.value == "nvidia/cuda:12.4.1-runtime"
    assert job.workdir is not None
    assert job.workdir.value == "/app"
    assert {each.text: each.pinned for each in job.requirements} == {
        "peft>=0.21": False, "torch==2.11.0": True, "trl >= 1.0": False
    }  # fmt: skip
    assert [word.value for word in job.command] == ["python", "/app/train.py"]
    assert job.env["OUT"].value == "/mnt/out"
    assert job.resumes_any is not None
    assert job.resumes_any.where.line == 3
    assert [word.value for word in job.keywords] == ["warmup_ratio"]


def test_a_file_without_packages_is_refused(tmp_path):
    (tmp_path / "requirements.txt").write_text("# none\n")
    job = job_of_mapping({"apiVersion": "batch/v1", "kind": "Job"})
    with pytest.raises(ConfigError, match="names no package"):
        with_requirements(job, tmp_path / "requirements.txt")


def test_a_shell_inside_a_command_is_read():
    """Flags and packages of the script that a job hands to a shell."""
    script = """set -e
        pip install -c constraints.txt 'trl>=1.0'
        pip install 'peft>=0.21' && vlcheck train run.yaml --output_dir /x"""
    pod = {"containers": [{"image": "x", "command": ["bash", "-lc"], "args": [script]}]}
    job = job_of_mapping({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}})

    assert job.flag("output_dir").value == "/x"
    assert {each.text: each.pinned for each in job.requirements} == {"trl>=1.0": True, "peft>=0.21": False}


def test_flags_that_are_repeated_add_up(tmp_path):
    """Lists of gcloud may come in pieces; a script that updates or creates is read by what it creates."""
    (tmp_path / "job.sh").write_text(
        "gcloud run jobs update x --image y\n"
        "gcloud beta run jobs create x --image y --command vlcheck --args=train --args=run.yaml \\\n"
        "  --set-env-vars=A=1 --set-env-vars=^:^B=2:C=3,4 --set-secrets=T=t:1 --set-secrets=/etc/x=u:1\n"
    )
    job = read_job(tmp_path / "job.sh")

    assert job.whole
    assert [word.value for word in job.command] == ["vlcheck", "train", "run.yaml"]
    assert {name: value.value for name, value in job.env.items()} == {"A": "1", "B": "2", "C": "3,4"}
    assert job.secrets == ("T",)


def test_a_modal_app_hands_its_image_on(tmp_path):
    (tmp_path / "job.py").write_text(
        "import modal\nif True:\n"
        "    image = modal.Image.debian_slim().pip_install('trl>=1.0', ['peft==0.21.2']).env({'OUT': '/x'})\n"
        "    app = modal.App('x', image=image)\n\n"
        "    @app.function(gpu=modal.gpu.H100(count=2), timeout=2 * 60 * 60)\n"
        "    def train(): ...\n"
    )
    job = read_job(tmp_path / "job.py")

    assert (job.gpu.value, job.gpu_count.value, job.timeout_seconds.value) == ("H100", 2, 7200)
    assert [each.text for each in job.requirements] == ["trl>=1.0", "peft==0.21.2"]
    assert job.env["OUT"].value == "/x"


def test_paths_of_a_config_are_those_of_its_job(tmp_path):
    """A model that lies on a mount is the model of that name; rows on a mount are not looked for here."""
    text = (JOBS / "launch" / "sound-cloud-run.yaml").read_text()
    text = text.replace("google/gemma-4-31B-it", "/mnt/gcs/google/gemma-4-31b-it/").replace(
        "dataset: timm/oxford-iiit-pet", "path: /mnt/gcs/pets"
    )
    (tmp_path / "run.yaml").write_text(text)
    job = read_job(JOBS / "upstream" / "gemma4.sh")
    spec, told = load_for(tmp_path / "run.yaml", job)

    assert (spec.model.id, spec.data.path) == ("google/gemma-4-31B-it", "/mnt/gcs/pets")
    assert [sentence.partition(" lies on a mount")[0] for sentence in told] == [
        "/mnt/gcs/google/gemma-4-31b-it/", "/mnt/gcs/pets"
    ]  # fmt: skip
    assert spec.where("model.id").line == 2
    with pytest.raises(ConfigError, match=r"/mnt/gcs/pets.* does not exist"):
        load(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_text(text.replace("[/mnt/out]", "[/mnt/out, /mnt/gcs]"))
    assert load_for(tmp_path / "run.yaml")[0].model.id == "google/gemma-4-31B-it"
