"""Files for TensorBoard."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from compressm.experiments.runs import train


def test_tensorboard_files_tell_of_the_run(recipe, data, tmp_path):

    result = train(recipe, data, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [x.value for x in events.Scalars("states/1")][-1] == result.orders[1]
    assert "spectrum/blocks.0.layer" in events.Tags()["histograms"]
