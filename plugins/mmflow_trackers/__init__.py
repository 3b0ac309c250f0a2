"""Trackers: programs that follow runs."""

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components():
    return {
        "tracker/jsonl": "mmflow_trackers.jsonl:JsonLines",
        "tracker/tensorboard": "mmflow_trackers.tensorboard:TensorBoard",
        "tracker/wandb": "mmflow_trackers.wandb:WeightsAndBiases",
        "tracker/mlflow": "mmflow_trackers.mlflow:MLflow",
    }
