"""The whole project at toy size, used as its users use it."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click.testing
import mlflow
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from kanji_diffusion import cli
from kanji_diffusion.outlines.specimen import draw_characters
from kanji_diffusion.sampling.lineage import read_picture
from kanji_diffusion.scoring.ocr import read_texts

MADE = {
    "02_intermediate": ["dictionary.parquet", "characters.parquet", "faces.parquet", "glyph_audit.parquet",
                        "rejected_glyphs.png"],
    "03_primary": ["glyphs.arrow", "glyph_sheet.png", "captions.parquet", "structure_glyphs.arrow",
                   "structure_captions.parquet"],
    "04_feature": ["glyph_scores.parquet", "component_glyphs.arrow"],
    "05_model_input": ["selected_glyphs.parquet", "caption_states", "small/latents", "large/latents"],
    "06_models": ["planner", "recogniser", "component_recogniser", "clip_model", "aesthetic_head", "vae",
                  "initial_text_encoder", "small/unet", "small/text_encoder", "large/unet", "large/text_encoder",
                  "text_to_kanji"],
    "07_model_output": ["samples.parquet", "zero_shot_samples.parquet", "zero_shot_glyphs.arrow",
                        "small/sample_sheet.png", "large/sample_sheet.png"],
    "08_reporting": ["evaluation_report.json", "evaluation_page.html", "invented_report.json", "invented_sheet.png",
                     "sampling_grid.parquet", "sample_sheet.png", "reading_plot.png", "filter_report.parquet",
                     "vae_report.json", "reconstruction_sheet.png", "small/report.json", "large/report.json",
                     "component_report.json", "zero_shot_scores.parquet", "zero_shot_report.json", "zero_shot_grid.png",
                     "composition_scores.parquet", "composition_report.json", "planner_report.json",
                     "promotion_report.json"],
}  # fmt: skip


def versions(project, artifact):
    return sorted(path.name for path in (project / "data/test" / artifact).iterdir() if not path.name.startswith("."))


@pytest.fixture(scope="session")
def run(project, finished):
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("kanji-diffusion-test")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return client, next(run for run in runs if run.info.run_name.startswith("__default__"))


def test_every_artifact_is_there_and_versioned(project, finished):
    for layer, names in MADE.items():
        for name in names:
            assert len(versions(project, f"{layer}/{name}")) >= 1, name


def test_the_reading_score_is_printed(finished):
    assert re.search(r"Reading score: \d+\.\d % of 16 samples are read as the kanji asked for", finished)


def test_where_the_time_went_is_printed(finished):
    assert re.search(
        r"Where the \d+\.\d min of this run went, in seconds:\n(.+\n)+Training of VAE and UNet: \d+% of", finished
    )
    assert re.search(r"\n[a-z_]+(\.[a-z_]+)+ +\d+\.\d +\d+%( +\d+\.\d){4}\n", finished)


def test_zero_shot_drawings_and_the_planner_are_judged(project, finished):
    assert re.search(r"Zero-shot: \d+\.\d % of 24 drawings of characters that were never trained on are read", finished)
    assert re.search(r"Planner: the true component is the first proposal for \d+\.\d % of \d+ kanji", finished)
    version = versions(project, "08_reporting/zero_shot_report.json")[0]
    path = project / f"data/test/08_reporting/zero_shot_report.json/{version}/zero_shot_report.json"
    report = json.loads(path.read_text())
    assert report["characters"] == 6
    assert {"parts", "meaning", "real"} <= set(report)


def test_one_mlflow_run_holds_parameters_curves_sheets_and_lineage(project, run):
    client, first = run
    assert first.info.status == "FINISHED"
    assert first.data.params["stages.small.training.steps"] == "8"
    curves = ("learning_rate", "gradient_norm", "images_per_second", "error_timestep_bin_4")
    for name in ("1_loss/unet_small", *(f"unet_small/{curve}" for curve in curves)):
        steps = [metric.step for metric in client.get_metric_history(first.info.run_id, name)]
        assert steps == [2, 4, 6, 8], name
    assert 0 <= first.data.metrics["2_figures/recogniser_top1"] <= 1
    assert first.data.metrics["unet_large/sampled_top1"] >= 0
    # One row of charts, so that the loss is on the first screen too.
    groups = Counter(name.partition("/")[0] for name in first.data.metrics)
    assert sorted(groups)[:2] == ["0_figures", "1_loss"]
    # At toy size no plan has parts that the component recogniser knows, so that the third figure is missing.
    assert {"0_figures/ocr", "0_figures/zero_shot_ocr"} <= set(first.data.metrics)
    assert groups["0_figures"] <= 3
    assert sum(groups.values()) <= 60
    tags = first.data.tags
    assert tags["runner"] == "SequentialRunner"
    assert [(used.dataset.name, used.dataset.digest) for used in first.inputs.dataset_inputs] == [
        ("glyphs", versions(project, "03_primary/glyphs.arrow")[0])
    ]
    assert "git.dirty" in tags or "git.commit" not in tags
    assert tags["written.large.unet"] == versions(project, "06_models/large/unet")[0]
    paths = [item.path for item in client.list_artifacts(first.info.run_id)]
    assert {"evaluate", "train_unet", "train_vae", "images", "sheets.json", "times.csv"} <= set(paths)
    assert 0 < first.data.metrics["time/training_share"] < 1


def test_the_glyph_table_is_an_image_table_for_others(project, finished):
    (version,) = versions(project, "03_primary/glyphs.arrow")[:1]
    table = pd.read_feather(project / f"data/test/03_primary/glyphs.arrow/{version}/glyphs.arrow")
    assert {"character", "code_point", "face_id", "style", "view", "split", "stroke_count", "image"} <= set(table)
    assert set(table["split"]) == {"train", "validation"}
    assert set(table["style"]) == {"gothic", "mincho", "brush", "handwritten"}


def test_the_same_run_again_keeps_the_first_and_continues_from_finished_training(project, kedro, finished):
    before = versions(project, "06_models/large/unet")
    again = kedro("run", "--env=test", "--pipelines=train_unet")
    assert again.returncode == 0, again.stderr
    assert "unet_large is finished" in again.stdout
    after = versions(project, "06_models/large/unet")
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    first, last = (
        project / f"data/test/06_models/large/unet/{version}/unet/diffusion_pytorch_model.safetensors"
        for version in (before[0], after[-1])
    )
    assert first.read_bytes() == last.read_bytes()


def test_generate_writes_a_picture_and_prints_its_path(project, kedro, finished):
    pictures = {}
    for style in ("brush", "gothic"):
        done = kedro("run", "--env=test", "--pipelines=generate", f"--params=prompt=water,style={style}")
        assert done.returncode == 0, done.stderr
        path = re.search(rf"'water: whole water \({style} kanji\)': (\S+\.png)", done.stdout)[1]
        pictures[style] = np.asarray(Image.open(path))
        assert pictures[style].shape == (32, 32)
    assert not np.array_equal(pictures["brush"], pictures["gothic"])
    script = """
import sys, numpy, torch
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
picture = pipeline("water: whole water (brush kanji)", num_inference_steps=4, guidance_scale=4.0,
                   generator=torch.Generator().manual_seed(0)).images[0]
assert not any(name.startswith("kanji_diffusion") for name in sys.modules)
numpy.save(sys.argv[2], numpy.asarray(picture))
"""
    version = versions(project, "06_models/text_to_kanji")[-1]
    folder = project / f"data/test/06_models/text_to_kanji/{version}/text_to_kanji"
    saved = project / "stock.npy"
    subprocess.run([sys.executable, "-c", script, folder, saved], check=True, cwd=project, capture_output=True)
    assert np.abs(np.load(saved).astype(int) - pictures["brush"]).max() <= 1


def test_the_best_of_two_is_drawn_again_bit_for_bit(project, kedro_run_here, finished):
    options = "prompts_file=words.txt,style=all,count=2,candidates.count=2,sampling.preset=classic"
    (project / "words.txt").write_text("[/b] water\nthunder dragon\n")
    drawn = kedro_run_here("--env=test", "--pipelines=generate", f"--params={options}")
    assert drawn.exit_code == 0, drawn.output
    newest = project / "data/test/07_model_output/generated" / versions(project, "07_model_output/generated")[-1]
    pictures = sorted((newest / "generated").iterdir())
    assert len(pictures) == 2 * 4 * 2
    # Whole paths, one a line.
    told = [line for line in drawn.stdout.splitlines() if line.startswith(str(newest))]
    assert sorted(told) == [str(picture) for picture in pictures]
    with Image.open(pictures[-1]) as picture:
        lineage = json.loads(picture.text["kanji-diffusion"])
    assert (lineage["word"], lineage["candidates"], lineage["sampling"]["sampler"]) == ("thunder dragon", 2, "plms")
    again = kedro_run_here("--env=test", "--pipelines=generate", f"--params=replay={pictures[-1]}")
    assert again.exit_code == 0, again.output
    replayed = newest.parent / versions(project, "07_model_output/generated")[-1] / "generated" / pictures[-1].name
    assert np.array_equal(np.asarray(Image.open(replayed)), np.asarray(Image.open(pictures[-1])))


def test_after_pruning_a_picture_is_drawn_again_and_training_goes_on(project, kedro_run_here, finished, caplog):
    caplog.set_level("INFO", "kanji_diffusion")
    shutil.copytree(project / "conf/test", project / "conf/pruned")
    (project / "conf/pruned/globals.yml").write_text("data: data/pruned\nexperiment: kanji-diffusion-test\n")
    data, old = project / "data/pruned", "2020-01-01T00.00.00.000Z"
    shutil.copytree(project / "data/test", data)
    for name in ("03_primary/glyphs.arrow", "06_models/large/unet", "06_models/text_to_kanji"):
        shutil.copytree(data / name / versions(project, name)[-1], data / name / old)
    drawn = kedro_run_here("--env=pruned", "--pipelines=generate", "--params=prompt=fire")
    assert drawn.exit_code == 0, drawn.output
    pruned = click.testing.CliRunner().invoke(cli.cli, ["prune", "--env=pruned", "--keep=1", "--yes"])
    assert pruned.exit_code == 0, pruned.output
    assert "large.unet" in pruned.stdout
    assert not list(data.rglob(old))
    assert all(list((data / layer / name).glob("*/*")) for layer, names in MADE.items() for name in names)
    again = kedro_run_here("--env=pruned", "--pipelines=generate", f"--params=replay={drawn.stdout.splitlines()[-1]}")
    assert again.exit_code == 0, again.output
    assert "was drawn again: identical" in caplog.text
    trained = kedro_run_here("--env=pruned", "--pipelines=train_unet")
    assert trained.exit_code == 0, trained.output
    assert "unet_large is finished" in caplog.text


def test_load_versions_picks_an_older_artifact(project, kedro, finished):
    oldest = versions(project, "06_models/text_to_kanji")[0]
    done = kedro("run", "--env=test", "--pipelines=generate", f"--load-versions=text_to_kanji:{oldest}")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("kanji-diffusion-test")
    newest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert newest.data.tags["read.text_to_kanji"] == oldest


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        # Before the first node, though only the last pipeline draws by it.
        (["--pipelines=render_glyphs", "--params=sampling.sampler=heun9"], "`sampling.sampler` cannot be 'heun9'"),
        (["--pipelines=render_glyphs", "--params=style_repeats.brsh=2"], "`style_repeats` names 'brsh', a style that"),
        (["--pipelines=generate", "--params=candidates.scorer=me"], "`candidates.scorer` is 'me': .*'clip'"),
        (["--pipelines=train_unet", "--params=stages.small.resolution=15"], "multiple of 2"),
        (
            ["--pipelines=evaluate", "--nodes=evaluate.draw_samples", "--params=evaluation.styles=[graffiti]"],
            "`evaluation.styles` names 'graffiti'.*choose among brush",
        ),
        (
            ["--pipelines=evaluate", "--nodes=evaluate.draw_invented", "--params=evaluation.invented.meanings=[water]"],
            "names 'water', for which there is a kanji",
        ),
    ],
)
def test_bad_input_gets_one_sentence(kedro_run_here, finished, options, sentence):
    done = kedro_run_here("--env=test", *options)
    assert done.exit_code != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert re.search(sentence, errors[0]), errors[0]
    assert "Traceback" not in done.output


def test_a_font_folder_without_usable_fonts_is_named(project, kedro_run_here):
    empty = project / "no_fonts"
    (empty / "fonts").mkdir(parents=True)
    (empty / "fonts" / "ipaexg.ttf").write_text("no font")
    for name in ("kanjidic2.xml.gz", "edict.gz"):
        (empty / name).symlink_to(project / "data/01_raw" / name)
    conf = project / "conf" / "nofonts"
    conf.mkdir()
    (conf / "globals.yml").write_text("raw: no_fonts\ndata: data/nofonts\n")
    done = kedro_run_here("--env=nofonts", "--pipelines=render_glyphs")
    assert done.exit_code != 0
    assert re.search(r"Error: No usable face in \S*no_fonts/fonts \(ipaexg.ttf ", done.stderr)


def test_the_released_model_draws_before_anything_was_trained(project, kedro_run_here):
    conf = project / "conf" / "fresh"
    conf.mkdir()
    (conf / "globals.yml").write_text("data: data/fresh\n")
    asked = '--params=prompt=["forest","horse","flower"],style=gothic,formats=[png,svg,strokes]'
    done = kedro_run_here("--env=fresh", "--pipelines=generate", asked)
    assert done.exit_code == 0, done.stderr
    pictures = [read_picture(path) for path in sorted((project / "data/fresh").rglob("generated/*.png"))]
    assert [lineage.word for _, lineage in pictures] == ["forest", "horse", "flower"]
    assert all(lineage.model_version is None for _, lineage in pictures)
    assert read_texts(np.stack([pixels for pixels, _ in pictures])) == ["森", "馬", "花"]
    drawn = sorted((project / "data/fresh").rglob("generated_svgs/*.svg"))
    assert [path.stem for path in drawn] == [path.stem for path in sorted((project / "data/fresh").rglob("*_0.png"))]
    assert set(map(str, drawn)) <= set(done.stdout.splitlines())
    written = sorted((project / "data/fresh").rglob("generated_strokes/*.svg"))
    assert [path.read_text(encoding="utf-8").count('class="stroke"') for path in written] == [12, 10, 7]


def test_the_released_model_makes_a_font_that_is_made_again_without_drawing(project, kedro_run_here, caplog):
    conf = project / "conf" / "font"
    conf.mkdir()
    (conf / "globals.yml").write_text("data: data/font\n")
    asked = (
        "--params=style=gothic,typeface.characters.characters=森馬花,typeface.meanings=[vampire],typeface.candidates=1"
    )
    files = []
    for _ in range(2):
        done = kedro_run_here("--env=font", "--pipelines=build_font", asked)
        assert done.exit_code == 0, done.stderr
        files.append([Path(line) for line in done.stdout.splitlines() if line.endswith((".otf", ".ttf"))])
        assert len(files[-1]) == 2
    drawn = list((project / "data/font/06_models/checkpoints/typeface").glob("*/*.npz"))
    assert len(drawn) == 1 and drawn[0].stat().st_mtime < files[1][0].stat().st_mtime
    for before, after in zip(*files, strict=True):
        assert before != after and before.read_bytes() == after.read_bytes()
    (path,) = (project / "data/font/08_reporting/font_glyphs.csv").glob(f"{files[0][0].parent.name}/*.csv")
    table = pd.read_csv(path)
    kept = table[table["status"] == "in the font"]
    cmap = TTFont(files[0][0]).getBestCmap()
    assert {
        f"U+{code_point:04X}": name for code_point, name in cmap.items() if code_point not in (0x20, 0x3000)
    } == dict(zip(kept["code_point"], kept["name"], strict=True))
    assert kept["word"].tolist() == ["森", "花", "馬", "vampire"]
    assert kept["name"].tolist()[-1] == "uniE000.vampire_blood_beside_ghost"
    shown = draw_characters(files[0][1].read_bytes(), "森花馬", 64)
    assert read_texts(shown) == ["森", "花", "馬"]
    report = json.loads(next((project / "data/font/08_reporting/font_report.json").glob("*/*.json")).read_text())
    assert report["characters"] == {"asked": 3, "in_font": 3, "share": 1.0, "left_out": {}}
    assert report["overlap"]["mean"] > 0.9


def test_a_trained_model_is_read_by_its_recognisers(project, kedro_run_here, finished):
    asked = "--params=style=brush,typeface.inventions=2,typeface.candidates=2"
    done = kedro_run_here("--env=test", "--pipelines=build_font", asked)
    # At toy size nothing may be legible.
    assert done.exit_code == 0 or "drawings is read as it should be" in done.stderr, done.stderr
    done = kedro_run_here("--env=test", "--pipelines=build_font", f"{asked},typeface.keep_unread=true")
    assert done.exit_code == 0, done.stderr
    path = sorted((project / "data/test/08_reporting/font_glyphs.csv").glob("*/*.csv"))[-1]
    table = pd.read_csv(path)
    assert table["word"].tolist()[:10] == sorted("一二三十口日木火水山")
    assert len(table) == 12 and table["merit"][:10].notna().all()


def test_a_missing_artifact_names_the_pipeline_that_makes_it(project, kedro_run_here):
    conf = project / "conf" / "nothing"
    conf.mkdir()
    (conf / "globals.yml").write_text("data: data/nothing\n")
    done = kedro_run_here("--env=nothing", "--pipelines=evaluate")
    assert done.exit_code != 0
    assert re.search(r"Error: `\w+` is missing: run `kedro run --pipeline=\w+` first", done.stderr)


def test_what_is_not_kept_names_the_node_that_makes_it(finished, kedro_run_here):
    alone = kedro_run_here("--env=test", "--nodes=train_unet.small.train_stage")
    assert "`initial_unet` is not kept from one run to the next: add `train_unet.initialise_unet`" in alone.stderr
    together = kedro_run_here("--env=test", "--nodes=train_unet.initialise_unet,train_unet.small.train_stage")
    assert together.exit_code == 0, together.stderr


def test_the_notebook_runs(project, finished):
    import nbformat
    from nbclient import NotebookClient

    (path,) = (project / "notebooks").glob("*.ipynb")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("ENVIRONMENT = None", 'ENVIRONMENT = "test"')
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 3


def test_recipes_are_compared_in_a_run_each_and_not_trained_twice(project, kedro_run_here, finished):
    done = kedro_run_here("--env=test", "--pipelines=compare_recipes")
    assert done.exit_code == 0, done.stderr
    trials = {path: path.stat().st_mtime_ns for path in (project / "data/test").rglob("recipes/*.npz")}
    done = kedro_run_here("--env=test", "--pipelines=compare_recipes")
    assert done.exit_code == 0, done.stderr
    assert trials == {path: path.stat().st_mtime_ns for path in (project / "data/test").rglob("recipes/*.npz")}
    for name in ("recipe_figures.parquet", "recipe_gains.parquet", "recipe_claims.parquet", "recipe_plot.png"):
        assert len(versions(project, f"08_reporting/{name}")) == 2
    (page, _), (summary, _) = (
        sorted((project / "data/test/08_reporting").rglob(f"*/{name}"))
        for name in ("recipe_page.html", "recipe_summary.md")
    )
    assert "A practice that does nothing" in page.read_text() and "| practice | the plan |" in summary.read_text()
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("kanji-diffusion-test").experiment_id
    parent = next(run for run in client.search_runs([experiment]) if run.info.run_name.startswith("compare_recipes"))
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    runs = {run.info.run_name: run.data for run in below}
    assert {"original", "improved", "today", "original + norm", "improved - norm"} <= set(runs)
    assert runs["original + norm"].params["norm"] == "true" and runs["original"].params["norm"] == "false"
    assert 0 <= runs["today"].metrics["overlap"] <= 1 and "curves/loss" in runs["today"].metrics


def test_pictures_from_elsewhere_and_a_model_are_scored(project, kedro_run_here, finished, tmp_path):
    """A font's own glyphs, an invention, and the model of the run."""
    font = ImageFont.truetype(next((project / "data/01_raw/fonts").rglob("VL-Gothic-Regular.ttf")), 90)
    for character in "森馬花虫":
        page = Image.new("L", (100, 100), 255)
        ImageDraw.Draw(page).text((50, 50), character, font=font, anchor="mm", fill=0)
        page.save(tmp_path / f"{character}.png")
    Image.new("L", (100, 100), 255).save(tmp_path / "new.png")
    rows = [*(f"{character}.png,{character}," for character in "森馬花虫"), "new.png,,⿰魚雷"]
    (tmp_path / "asked.csv").write_text("\n".join(["file,character,parts", *rows]), encoding="utf-8")
    done = kedro_run_here("--env=test", "--pipelines=score", f"--params=pictures={tmp_path}")
    assert done.exit_code == 0, done.stderr
    report = newest_report(project, "score_report.json")
    assert report["pictures"] == 5 and report["samples"] == 4
    assert report["reading"]["ocr"] == 1 and "style" not in report
    assert report["inventions"]["samples"] == 1
    done = kedro_run_here("--env=test", "--pipelines=score", "--params=score.prompt=a {style} kanji of {meaning}")
    assert done.exit_code == 0, done.stderr
    assert newest_report(project, "score_report.json")["samples"] == 16
    page = max((project / "data/test/08_reporting").rglob("*/score_page.html"))
    assert "Pictures from elsewhere" in page.read_text() and 'id="zero-shot"' not in page.read_text()


def newest_report(project, name):
    return json.loads(max((project / "data/test/08_reporting").rglob(f"*/{name}")).read_text())


def test_kedro_lists_pipelines_and_datasets(kedro, finished):
    listed = kedro("registry", "list")
    for name in (
        "render_glyphs",
        "filter_glyphs",
        "train_vae",
        "train_unet",
        "evaluate",
        "generate",
        "build_font",
        "compare_recipes",
        "score",
        "adapt",
    ):
        assert name in listed.stdout
    described = kedro("catalog", "describe-datasets", "--env=test")
    assert described.returncode == 0, described.stderr


def test_the_report_figures_are_in_the_catalog(project, finished):
    version = versions(project, "08_reporting/evaluation_report.json")[0]
    path = project / f"data/test/08_reporting/evaluation_report.json/{version}/evaluation_report.json"
    report = json.loads(path.read_text())
    assert report["samples"] == 16
    reading = report["reading"]
    assert reading["top1_low"] <= reading["top1"] <= reading["top1_high"]
