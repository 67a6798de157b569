"""The blocks that tests of their own run, and those that nothing can run here.

Every other block is run by test_sections.py as it stands. A heading belongs to one page: a section
may move to another page and keeps its tests.
"""

README = "tests/docs/test_readme.py"
DEPLOY = "tests/deploy/test_recipes.py"
CLAIMS = {
    ("Django", "python"): f"{README}::test_django_app_takes_its_settings",
    (
        "Flask",
        "python",
    ): f"{README}::test_flask_app_runs_tasks_in_its_context_and_serves_the_scrape",
    ("If you use prometheus_client already", "python"): (
        f"{README}::test_flask_app_runs_tasks_in_its_context_and_serves_the_scrape"
    ),
    ("Move from bytearray", "python"): (f"{README}::test_pooled_digest_is_that_of_the_bytearray"),
    (
        "Test sealed tasks",
        "python",
    ): "tests/docs/test_users_suite.py::test_suite_of_the_page_passes",
    ("Return a secret", "python"): f"{README}::test_minted_key_reaches_its_caller_sealed",
    ("Seal from another language", "python"): (
        f"{README}::test_secret_sealed_without_our_code_opens"
    ),
    ("Credentials from files", "python"): (
        f"{README}::test_fingerprint_of_a_file_is_that_of_its_content"
    ),
    ("Compose", "console"): f"{DEPLOY}::test_composes_secrets_are_made_where_it_looks_for_them",
    ("systemd", "console"): f"{DEPLOY}::test_the_broker_s_password_is_never_readable_by_others",
    (
        "Commands",
        "console",
    ): f"{README}::test_its_commands_answer_beside_its_app_and_find_warm_buffers",
    (
        "Size the pools",
        "console",
    ): f"{README}::test_its_commands_answer_beside_its_app_and_find_warm_buffers",
    ("Scrape any program", "console"): (
        "tests/adapters/test_programs.py::"
        "test_every_request_is_in_the_scrape_when_workers_were_recycled"
    ),
    ("Log lines", "json"): f"{README}::test_log_line_has_the_numbers_that_it_shows",
    ("First queries", "promql"): (
        "tests/celery/test_prometheus.py::test_the_queries_of_the_readme_have_answers"
    ),
}
NOT_RUN = {
    ("Install", "console"): "pip and the index; .ci/wheels installs the wheel",
    ("Docker", "console"): "docker; tests/deploy/build_image.py runs the Dockerfile's steps",
    ("Kubernetes", "console"): "kubectl; tests/deploy reads the manifests",
}
