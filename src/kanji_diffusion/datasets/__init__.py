"""The dataset classes of the catalog."""

from kanji_diffusion.datasets.array_folder import ArrayFolderDataset
from kanji_diffusion.datasets.font_file import FontFileDataset
from kanji_diffusion.datasets.image_sheet import ImageSheetDataset
from kanji_diffusion.datasets.model_folder import ModelFolderDataset
from kanji_diffusion.datasets.model_source import ModelSourceDataset
from kanji_diffusion.datasets.nested_runs import NestedRunsDataset
from kanji_diffusion.datasets.page import PageDataset
from kanji_diffusion.datasets.picture_folder import PictureFolderDataset, SvgFolderDataset
from kanji_diffusion.datasets.raw_path import RawPathDataset
from kanji_diffusion.datasets.registered_model import ChampionDataset, RegisteredModelDataset
from kanji_diffusion.datasets.report import ReportDataset
from kanji_diffusion.datasets.table import TableDataset
from kanji_diffusion.datasets.tracker import TrackerDataset
from kanji_diffusion.datasets.work_folder import WorkFolderDataset

__all__ = [
    "ArrayFolderDataset",
    "ChampionDataset",
    "FontFileDataset",
    "ImageSheetDataset",
    "ModelFolderDataset",
    "ModelSourceDataset",
    "NestedRunsDataset",
    "PageDataset",
    "PictureFolderDataset",
    "RawPathDataset",
    "RegisteredModelDataset",
    "ReportDataset",
    "SvgFolderDataset",
    "TableDataset",
    "TrackerDataset",
    "WorkFolderDataset",
]
