"""Words of the configuration that several folders share."""

# what a model is for (model.task)
CLASSIFICATION, REGRESSION = "SequenceClassification", "SequenceRegression"
CAUSAL = "CausalLM"
TASKS = (CLASSIFICATION, REGRESSION, CAUSAL)
# trainer.type of labelled texts, and of instructions
CLASSIFICATION_TRAINER, LANGUAGE_TRAINER = "fedsa_glue", "fedsa_llm"
TRAINERS = (CLASSIFICATION_TRAINER, LANGUAGE_TRAINER)
# what answers may be scored by (fedsa.eval.generate.metric)
GENERATION_METRICS = ("exact_match", "rouge_l", "pass_at_1")
# where results may go as they come (fedsa.track)
TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD,)
# in data.type and model.type: what Python code hands to the run
GIVEN = "given"
