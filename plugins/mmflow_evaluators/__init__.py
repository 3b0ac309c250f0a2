"""First-party components: evaluators."""

from __future__ import annotations

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components() -> dict[str, str]:
    return {
        "stage/retrieval": "mmflow_evaluators.retrieval:Retrieval",
        "stage/zero_shot": "mmflow_evaluators.zero_shot:ZeroShot",
        "stage/linear_probe": "mmflow_evaluators.linear_probe:LinearProbe",
        "stage/knn": "mmflow_evaluators.knn:Knn",
        "stage/geometry": "mmflow_evaluators.geometry:Geometry",
        "stage/multiple_choice": "mmflow_evaluators.choice.multiple_choice:MultipleChoice",
        "stage/pair_matching": "mmflow_evaluators.choice.pair_matching:PairMatching",
        "stage/similarity_correlation": "mmflow_evaluators.binary.similarity_correlation:SimilarityCorrelation",
        "stage/pair_classification": "mmflow_evaluators.binary.pair_classification:PairClassification",
        "stage/open_set": "mmflow_evaluators.binary.open_set:OpenSet",
        "stage/clustering": "mmflow_evaluators.clustering.clustering:Clustering",
        "stage/category_discovery": "mmflow_evaluators.clustering.category_discovery:CategoryDiscovery",
        "stage/representation_similarity": "mmflow_evaluators.similarity.encoder_pairs:RepresentationSimilarity",
        "stage/relevance": "mmflow_evaluators.relevance.relevance:Relevance",
        "stage/reranking": "mmflow_evaluators.relevance.reranking:Reranking",
        "stage/pairwise_retrieval": "mmflow_evaluators.relevance.pairwise_retrieval:PairwiseRetrieval",
        "stage/calibration": "mmflow_evaluators.uncertainty.calibration:Calibration",
        "stage/uncertainty": "mmflow_evaluators.uncertainty.uncertainty:Uncertainty",
        "stage/text_overlap": "mmflow_evaluators.generation.text_overlap:TextOverlap",
        "stage/yes_no": "mmflow_evaluators.generation.yes_no:YesNoQuestions",
        "stage/grid_probe": "mmflow_evaluators.dense.grid_probe:GridProbe",
        "stage/few_shot": "mmflow_evaluators.probes.few_shot:FewShot",
        "stage/k_shot_probe": "mmflow_evaluators.probes.few_shot:KShotProbe",
        "stage/factor_probe": "mmflow_evaluators.probes.linear_probes:FactorProbe",
        "stage/regression_probe": "mmflow_evaluators.probes.linear_probes:RegressionProbe",
        "stage/multi_label_probe": "mmflow_evaluators.probes.linear_probes:MultiLabelProbe",
        "stage/moment_retrieval": "mmflow_evaluators.temporal.moment_retrieval:MomentRetrieval",
        "stage/boundary_detection": "mmflow_evaluators.temporal.boundary_detection:BoundaryDetection",
        "stage/detection": "mmflow_evaluators.detection.detection:Detection",
        "stage/tracking": "mmflow_evaluators.tracking.tracking:Tracking",
        "stage/spectrum": "mmflow_evaluators.similarity.spectrum_stage:Spectrum",
    }
