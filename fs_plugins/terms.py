"""Values of options that several folders use."""

# the task of the model (model.task)
CLASSIFICATION, REGRESSION = "SequenceClassification", "SequenceRegression"
CAUSAL = "CausalLM"
MULTI_LABEL = "MultiLabelClassification"
TASKS = (CLASSIFICATION, MULTI_LABEL, REGRESSION, CAUSAL)
# the problem type of transformers for a task with several labels a text
MULTI_LABEL_TYPE = "multi_label_classification"
# trainer.type for labelled texts, and for instructions
CLASSIFICATION_TRAINER, LANGUAGE_TRAINER = "fedsa_glue", "fedsa_llm"
TRAINERS = (CLASSIFICATION_TRAINER, LANGUAGE_TRAINER)
# the metrics of texts that may have several labels
LABEL_SET_METRICS = ("micro_f1", "macro_f1", "subset_acc")
# the templates by which conversations become texts (fedsa.chat.template)
AUTO, ALPACA, NONE = "auto", "alpaca", "none"
# the scores of generated answers (fedsa.eval.generate.metric)
GENERATION_METRICS = ("exact_match", "rouge_l", "pass_at_1")
# the results of multiple-choice questions (fedsa.eval.choices)
CHOICE_METRICS = ("choice_acc", "choice_acc_norm")
# what fedsa_llm computes besides the loss
ANSWER_METRICS = (*GENERATION_METRICS, *CHOICE_METRICS)
# the programs that can show the results of a run (fedsa.track)
TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD,)
# in data.type and model.type: data or a model that Python code provides
GIVEN = "given"
# the splitter of which each file is a client (data.splitter)
BY_FILE = "files"
# how a distributed run is begun
START_WITH_FEDERATE = (
    "federate.mode: a distributed run is begun by 'fedsa federate', which "
    "writes this key itself; leave federate.mode and the section distribute "
    "out of the YAML file"
)
