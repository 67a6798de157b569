"""What `doctor` says of keys: those of arguments, and those of results."""

import bufpool_workers as bp
from bufpool_workers.console.key_checks import check_keys


def test_keys_of_results_are_looked_at_like_those_of_arguments(tmp_path):
    own, lent = tmp_path / "own.key", tmp_path / "lent.key"
    public = bp.generate_key(own)
    bp.generate_key(lent)
    lent.chmod(0o644)
    settings = bp.Settings(
        public_key=public,
        private_keys=(str(own),),
        result_public_keys=(public, str(tmp_path / "no.pub")),
        result_private_keys=(str(own), str(lent)),
    )
    found = [(finding.severity, finding.message) for finding in check_keys(settings)]
    assert [severity for severity, _ in found] == ["ok", "ok", "error", "ok", "ok", "error"]
    messages = [message for _, message in found]
    assert messages[0].startswith("arguments are sealed to the public key")
    assert messages[1].startswith("results are sealed to the public key")
    assert "no.pub: No such file" in messages[2]
    assert "lent.key: mode 0644 lets others use it" in messages[5]
