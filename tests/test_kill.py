"""Training survives being killed: a short campaign. The long one: python -m tests.kill_campaign."""

from pathlib import Path

from tests.kill_campaign import Campaign, plan


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=0)
    for mode, kills in plan(6, ["repro", "exp run"], campaign.random).items():
        campaign.run(mode, kills)
    print(campaign.report())
    assert campaign.problems == []
    assert campaign.compared >= 2
    assert len(campaign.rows) == 6
