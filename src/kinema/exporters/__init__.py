"""Exported files for other runtimes: ONNX, OpenVINO, torch.export, AOTInductor."""

from kinema.exporters.task import FORMATS, ExportReport, Facts, export, export_stream

__all__ = ["FORMATS", "ExportReport", "Facts", "export", "export_stream"]
