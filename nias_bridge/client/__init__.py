"""Runs on a lab's cluster from Python: Client().submit("psd-study").wait().files["psd.npz"]."""

from __future__ import annotations

from nias_bridge.client.client import Client
from nias_bridge.client.datasets import Dataset, Datasets, Version
from nias_bridge.client.files import Files
from nias_bridge.client.gateway import NoAnswer, Refused
from nias_bridge.client.login import NotLoggedIn
from nias_bridge.client.runs import Accounting, Diagnosis, Run, Task, Warned

__all__ = [
    "Accounting",
    "Client",
    "Dataset",
    "Datasets",
    "Diagnosis",
    "Files",
    "NoAnswer",
    "NotLoggedIn",
    "Refused",
    "Run",
    "Task",
    "Version",
    "Warned",
]
