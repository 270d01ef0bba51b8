"""Holding what a destination has against what the source has, each asked for what the judgement needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from core.engine.carried import Carried, SourceTrouble, md5
from core.engine.verify import Judgement, Verdict, judge, judge_attributes
from core.ledger.rows import Delivery
from core.model import clock
from core.model.errors import FerryError
from core.model.outcome import Evidence, Method
from core.model.study import Holding, StudyInfo
from core.nodes.base import Compare, CompareByFetching, Confirm, Node, Read, digest_of
from core.wire.abort import Abort

_PIECE = 1 << 18  # bytes that are read at a time where only their digest counts


class Judging:
    """Judges the deliveries of one route.

    Parameters
    ----------
    deletes : bool
        Whether the source's images go once they are proved.
    pace : Callable[[int], None]
        Told of so many bytes that are read from the source; may wait.
    """

    def __init__(
        self, source: Node, destination: Node, *, deletes: bool, pace: Callable[[int], None], abort: Abort
    ) -> None:
        assert isinstance(source, Read)
        self._source = source
        self._read: Read = source
        self._destination = destination
        self._deletes = deletes
        self._pace = pace
        self._abort = abort

    def learn_digests(self, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        found = self._read.source_digests([d.instance for d in deliveries], abort=self._abort)
        for d in deliveries:
            d.known_digest = found.get(d.instance.sop_uid)

    def judge(self, study: StudyInfo, delivery: Delivery, holding: Holding) -> Judgement:
        at = clock.now()
        ours, theirs = self._source, self._destination
        instance = delivery.instance
        unlike = holding.digest and delivery.known_digest and holding.digest != delivery.known_digest
        if unlike and instance.transfer_syntax is None and isinstance(ours, Confirm):
            # Only now does it matter how the source encodes it: re-encoded there, or other content?
            mine = ours.confirm(study, [replace(instance, digest=None)], abort=self._abort)[0]
            instance = replace(instance, transfer_syntax=mine.transfer_syntax)
        found = judge(instance, delivery.known_digest, holding, at, newly_stored=delivery.newly_stored)
        if found.verdict is not Verdict.COMPARE:
            return found
        comparable = isinstance(ours, Compare) and isinstance(theirs, Compare)
        if found.evidence is not None and not comparable:
            return Judgement(Verdict.SAME, self._looked_into(study, delivery, holding, found.evidence))
        return judge_attributes(
            delivery.known_digest,
            holding,
            ours.attributes(study, delivery.instance) if isinstance(ours, Compare) else None,
            theirs.attributes(study, delivery.instance) if isinstance(theirs, Compare) else None,
            at,
        )

    def _looked_into(self, study: StudyInfo, delivery: Delivery, holding: Holding, by_uid: Evidence) -> Evidence:
        """Before a move deletes what was never sent, what lies there under its UID is compared with the source's.

        The destination's digest with that of what the source gives, or what either gives; the digest stands for it
        then. Without that nothing is deleted; see `Ledger.deletable`.
        """
        if not self._deletes or delivery.tried:
            return by_uid
        theirs = self._destination
        try:
            if holding.digest and not delivery.known_digest:
                return self._read_and_hashed(delivery, holding.digest.lower(), by_uid)
            if isinstance(theirs, CompareByFetching):
                return self._fetched(theirs, study, delivery, by_uid)
        except SourceTrouble:
            pass  # it keeps what it can't give
        except FerryError:
            if self._abort.aborted:
                raise
        return by_uid

    def _fetched(self, theirs: CompareByFetching, study: StudyInfo, delivery: Delivery, by_uid: Evidence) -> Evidence:
        """What lies at the destination is fetched and compared with what the source gives."""
        with self._read.open(delivery.instance, abort=self._abort) as stream:
            digest = digest_of(stream) or delivery.known_digest
            hasher = None if digest else md5()
            body = Carried(stream, hasher, self._pace)
            if not theirs.holds_same(study, delivery.instance, body, abort=self._abort):
                return by_uid
        if hasher is not None:
            digest = delivery.known_digest = hasher.hexdigest()
        return Evidence(Method.HEADER, by_uid.at, digest or "", "Fetched from the destination: all of it is equal.")

    def _read_and_hashed(self, delivery: Delivery, theirs: str, by_uid: Evidence) -> Evidence:
        """The source tells no digests: its image is read for its own.

        Another one is no proof of other content: services write the head of a file anew.
        """
        with self._read.open(delivery.instance, abort=self._abort) as stream:
            ours = digest_of(stream)
            hasher = md5()
            body = Carried(stream, hasher, self._pace)
            view = memoryview(bytearray(_PIECE))
            while not ours and body.readinto(view):
                pass
        if (ours or hasher.hexdigest()).lower() != theirs:
            return by_uid
        delivery.known_digest = theirs
        return Evidence(Method.DIGEST, by_uid.at, theirs, "Read at the source: the destination holds the same file.")

    def judge_again(
        self, study: StudyInfo, judged: Sequence[tuple[Delivery, Holding, Judgement]]
    ) -> dict[int, Judgement]:
        """What differs from what was planned may have changed at the source since: judge by what that holds now."""
        unlike = [(d, h) for d, h, found in judged if found.verdict is Verdict.DIFFERENT]
        if not unlike:
            return {}
        now = self._read.source_digests([d.instance for d, _h in unlike], abort=self._abort)
        found: dict[int, Judgement] = {}
        for delivery, holding in unlike:
            digest = now.get(delivery.instance.sop_uid)
            if digest and digest != delivery.known_digest:
                delivery.known_digest = digest
                found[delivery.id] = self.judge(study, delivery, holding)
        return found
