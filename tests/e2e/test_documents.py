"""The documents hold: what they say to type is typed, in order, on a terminal, and shows what they promise."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hubbackup.streams.age_keys import generate
from tests.e2e import stack as stacks
from tests.e2e.beside import Application, Shown
from tests.e2e.stack import BUCKET, DATABASE, s3_at
from tests.support.documents import DOCUMENTS, Block, fenced, within_sentences
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.sample import load_sample

GUIDE, GUIDE_ENGLISH = "docs/guide.fr.md", "docs/guide.md"
RUNBOOK, RUNBOOK_FRENCH = "docs/restore-runbook.md", "docs/restore-runbook.fr.md"
BACKUP = r"hub_chantier_backup_\d{8}_\d{6}\.sql\.gz"
DONE = rf"Backup termine: {BACKUP}"
RESTORED = rf"{BACKUP} is now the database hub_chantier"
LISTED = rf"-rw\S+ .* {BACKUP}"
SEEN: list[list[str]] = [
    [r"link scripts/backup\.sh", r"add to the top of docker-compose\.prod\.yml", r"Started"],
    [rf"{DONE} .*in local", LISTED, r"login +OK", r" 0 failures"],
    [rf"{DONE} .*in local, s3"],
    [DONE, LISTED],
    [BACKUP, RESTORED, r"restore\.sh --undo", r"Started"],
    [rf"{DONE} .*in local, s3", RESTORED],
    [r"was restored: .* in a throwaway server"],
    [r"All right\.", r"BACKUP OK - ", LISTED, r"\d\S*\t\S+-files/", r'"event": ?"daemon\.started"'],
    [r" 0 failures", r"\(healthy\)", r"accepting connections", r"PostgreSQL database dump"],
    [rf"ok +{BACKUP} in local", rf"ok +{BACKUP} in s3"],
    [r"Filesystem", BACKUP, r"the policy keeps 3 days", r"0 removed"],
    [r"Successfully (built|tagged)|CACHED|naming to", r'"event": ?"daemon\.started"'],
]
"""What the operator looks at after each block of the guide."""
OLD_GUIDE: list[tuple[str, list[str]]] = [
    ("ls -lth /var/backups/hub-chantier/ | head -10", [LISTED]),
    (
        "LATEST=$(ls -t /var/backups/hub-chantier/hub_chantier_backup_*.sql.gz | head -1)\n"
        'echo "Dernier backup: $LATEST"\nstat "$LATEST"',
        [rf"Dernier backup: \S+/{BACKUP}", r"Modify: "],
    ),
    ("gunzip -c /var/backups/hub-chantier/hub_chantier_backup_20260208_030000.sql.gz | head -100", [r"CREATE TYPE"]),
    ("docker logs hub-chantier-backup --tail 100 -f || true", [r'"event": ?"daemon\.started"']),
    (
        'docker compose -f docker-compose.prod.yml exec db psql -U hubchantier hub_chantier -c "SELECT COUNT(*) FROM'
        ' utilisateurs;"',
        [r"count"],
    ),
    ("curl -sS http://localhost:8000/health", [r"Directory listing"]),
    ("aws s3 ls s3://hub-chantier-backups/backups/ --endpoint-url https://s3.fr-par.scw.cloud", [BACKUP]),
    ('find /var/backups/hub-chantier -name "hub_chantier_backup_*.sql.gz" -mtime +3 -delete', []),
    ("docker compose -f docker-compose.prod.yml --profile backup up -d backup-cron", [r"Running"]),
    ("/home/deploy/hub-chantier/scripts/check-backup-alert.sh < /dev/null | cat", [r"\A\Z"]),
]
"""Commands of the guide that the operators already work by, which ours has in other words: each works as typed."""


@pytest.fixture(scope="module")
def application(docker_engine: str, request: pytest.FixtureRequest) -> Iterator[Application]:
    """An application with some data and an empty bucket; hubbackup is not there yet."""
    stacks.build_image()
    found = Application()
    try:
        found.compose("up", "-d", "--wait", "db", "api", "s3")
        load_sample(found.psql, DATABASE, 5)
        s3_at(found.s3_address).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": stacks.ENV["AWS_DEFAULT_REGION"]}
        )
        yield found
        if request.session.testsfailed:
            print(found.compose("logs", "--no-color", "backup-cron", check=False).stdout)
    finally:
        found.remove()


@pytest.fixture(scope="module")
def as_it_was(application: Application) -> Fingerprint:
    """The database before anything was restored into it."""
    return fingerprint(application.psql, DATABASE)


def typed(application: Application, text: str, seen: list[str]) -> Shown:
    """Type it; it must end well, and show what is looked for."""
    shown = application.type(text)
    assert shown.code == 0, f"exit code {shown.code}:\n{shown.screen}"
    for pattern in seen:
        assert re.search(pattern, shown.screen), f"{pattern} is not in\n{shown.screen}"
    return shown


def commands(text: str) -> list[str]:
    """What a block does: its lines without comments."""
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()) if line]


@pytest.mark.parametrize(
    ("block", "seen"), [pytest.param(*both, id=str(both[0])[:60]) for both in zip(fenced(GUIDE), SEEN, strict=True)]
)
def test_the_guide_as_typed(application: Application, as_it_was: Fingerprint, block: Block, seen: list[str]) -> None:
    """Each block of the French guide, in order, from `git clone` on: it ends well, and shows what the guide says."""
    if "--latest" in block.text:
        application.psql("DROP TABLE pointages CASCADE; DELETE FROM photos;", database=DATABASE)
    typed(application, block.text, seen)
    if "restore.sh" in block.text:
        assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []


def test_the_guides_say_the_same() -> None:
    """Every command of the English guide stands in the French one at the same place, and so do the runbooks'."""
    words = {"votre_": "your_", "NOM": "NAME", "FICHIER": "FILE", "secours": "rescue", "mardi": "tuesday"}

    def english(text: str) -> list[str]:
        for french, word in words.items():
            text = text.replace(french, word)
        return commands(text)

    for one, other, found in ((GUIDE, GUIDE_ENGLISH, fenced), (RUNBOOK_FRENCH, RUNBOOK, within_sentences)):
        assert [english(block.text) for block in found(one)] == [commands(block.text) for block in found(other)]


@pytest.mark.parametrize(("text", "seen"), [pytest.param(*both, id=both[0][:60]) for both in OLD_GUIDE])
def test_the_guide_that_operators_know(application: Application, text: str, seen: list[str]) -> None:
    """What else the first guide has to type works as it stands there."""
    typed(application, text, seen)


TYPED_ELSEWHERE = {GUIDE, GUIDE_ENGLISH}
FURTHER = [block for document in DOCUMENTS if document not in TYPED_ELSEWHERE for block in fenced(document)]
KNOWN = {line for block in fenced(GUIDE) for line in commands(block.text)}


@pytest.mark.parametrize(
    "block", [block for block in FURTHER if not block.not_run], ids=lambda block: str(block)[:60]
)
def test_the_other_documents_as_typed(application: Application, block: Block) -> None:
    """Every other shell block of the documents ends well, but for those beside which a comment says why it can't be
    typed here. Lines that the guide has, too, were typed there."""
    fresh = "\n".join(line for line in commands(block.text) if line not in KNOWN)
    typed(application, fresh, [])


def test_blocks_that_are_not_run_say_why() -> None:
    """Few, and each with its reason."""
    not_run = [block for block in FURTHER if block.not_run]
    assert all(len(block.not_run) > 10 for block in not_run)
    assert len(not_run) <= len(FURTHER) * 0.6


LOST, PART, GONE, REFUSED, SEALED = (
    [block for block in within_sentences(RUNBOOK) if block.heading == heading]
    for heading in (
        "All is lost, the server stands",
        "Only a part is lost",
        "The server is gone",
        "The backup is refused",
        "The backup is sealed (`.sql.gz.age`)",
    )
)


def test_the_runbook_when_all_is_lost(application: Application, as_it_was: Fingerprint) -> None:
    """Its five steps bring the database back, and the last one the state before."""
    typed(application, "./scripts/backup.sh --upload-s3", [DONE])
    application.psql("DROP TABLE pointages CASCADE", database=DATABASE)
    *steps, undo = LOST
    for block in steps:
        typed(application, block.text, [])
    assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []
    typed(application, undo.text, [])
    assert application.psql("SELECT to_regclass('pointages')", database=DATABASE).strip() == ""
    typed(application, "./scripts/restore.sh --latest", [RESTORED])


def test_the_runbook_when_only_a_part_is_lost(application: Application, as_it_was: Fingerprint) -> None:
    """A table that was emptied, rows that were changed, a look at an earlier day, a table that is gone: each is
    found and brought back by what stands there, in the live database or beside it."""
    typed(application, "./scripts/backup.sh --upload-s3", [DONE])
    rows = int(application.psql("SELECT count(*) FROM photos", database=DATABASE))
    assert rows > 10

    def step(number: int, *seen: str) -> None:
        text = PART[number].text.replace("NAME", application.newest()).replace("TABLE", "photos")
        typed(application, text, list(seen))

    application.psql("DELETE FROM photos", database=DATABASE)
    step(0, application.newest())
    step(1, "photos")
    step(2, rf"{rows} .*missing|missing +{rows}")
    step(3, "yes")
    assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []
    application.psql("UPDATE photos SET prise_le = prise_le - interval '1 year' WHERE id < 8", database=DATABASE)
    step(4, "prise_le")
    step(5, "prise_le")
    step(6, "yes")
    assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []
    step(7)
    assert len((application.directory / "tuesday.csv").read_text().splitlines()) == rows + 1
    step(8, "rescue")
    counted = "SELECT (SELECT count(*) FROM photos), (SELECT count(*) FROM pointages)"
    assert application.psql(counted, database="rescue").strip() == f"{rows}|0"
    application.psql("DROP DATABASE rescue")
    assert len(PART) == 9


def test_the_runbook_when_the_backup_is_refused(application: Application) -> None:
    """Each of its ways restores; the last one with nothing but gunzip and psql."""
    for block in REFUSED:
        typed(application, block.text, [])
    rows = "SELECT count(*) FROM pointages"
    assert application.psql(rows, database="rescue") == application.psql(rows, database=DATABASE)


def test_the_runbook_when_the_backup_is_sealed(application: Application, as_it_was: Fingerprint) -> None:
    """The printed key, in a file on the host, brings the database back; it never is in the container."""
    private, public = generate()
    (application.directory / "hubbackup.key").write_text(f"{private}\n")
    settings = application.env_file.read_text()
    application.env_file.write_text(f"{settings}\nBACKUP_ENCRYPT_RECIPIENTS={public}\n")
    try:
        typed(application, "./scripts/backup.sh", [rf"{DONE}\.age "])
        application.psql("DROP TABLE pointages CASCADE", database=DATABASE)
        assert SEALED
        for block in SEALED:
            typed(application, block.text, [rf"{BACKUP}\.age is now the database hub_chantier"])
    finally:
        application.env_file.write_text(settings)
    assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []


def test_the_runbook_when_the_server_is_gone(application: Application, as_it_was: Fingerprint) -> None:
    """A new server, with nothing but the bucket, the application's repository and `.env.production`, has the same
    database in seven steps."""
    application.lose_the_server()
    typed(application, "git clone https://example.org/hubbackup.git hubbackup", [])
    for block in GONE:
        typed(application, block.text, [])
        if " db" in block.text:
            application.compose("up", "-d", "--wait", "db")
    assert diff(as_it_was, fingerprint(application.psql, DATABASE)) == []
