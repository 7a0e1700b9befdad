"""What the sign-offs say in print: the stamp, the signature page, and which rows and findings they have answered since. Pure.

Invariants: only what signatures on exactly this package say is counted, each person's last word at each stage; a row counts as answered
since only where a signature was all that it lacked, by the role that it names, from somebody who did not build the version, and while
nobody objects. The package itself is never changed by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from cognify_dagster.documents.labels import STRENGTHS, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    digest_text,
    heading,
    mono,
    notice,
    paragraph,
    see,
    small,
    table,
)

Json = dict[str, Any]
Signature = Mapping[str, Any]
Copy = Literal["review", "final"]
APPROVING = ("approve", "approve_with_conditions")
ANCHOR = "signatures"


@dataclass(frozen=True)
class SignOffs:
    """The sign-offs that a copy shows.

    Attributes:
        standing: each person's last word at each stage, in order of entry; empty in a review copy.
        builders: ids of the people who built the version; their signatures answer no row.
        signers: the roles that sign, in words; each may accept a finding by a condition.
    """

    copy: Copy
    standing: tuple[Signature, ...]
    builders: frozenset[str]
    signers: tuple[str, ...] = ()

    @property
    def approvals(self) -> list[Signature]:
        """Standing approvals."""
        return [item for item in self.standing if item["decision"] in APPROVING]

    @property
    def objections(self) -> list[Signature]:
        """Standing rejections and blocks."""
        return [item for item in self.standing if item["decision"] in ("reject", "block")]

    @property
    def conditions(self) -> list[tuple[Signature, Mapping[str, Any]]]:
        """Each condition of a standing approval, with its signature."""
        approved = [s for s in self.approvals if s["decision"] == "approve_with_conditions"]
        return [(s, condition) for s in approved for condition in s.get("conditions", ())]

    def answers(self, line: Json) -> tuple[list[Signature], list[Json]]:
        """Return the signatures that answer gaps of a requirement's row, and the gaps that remain."""
        found: list[Signature] = []
        left: list[Json] = []
        for gap in line["gaps"]:
            signed = self._by(gap.get("answered_by", ""))
            if signed is None:
                left.append(gap)
            elif signed not in found:
                found.append(signed)
        return found, left

    def _by(self, role: str) -> Signature | None:
        if not role or self.objections:
            return None
        able = [s for s in self.approvals if s["person"] not in self.builders]
        return next((s for s in able if role in ("*", s["role"])), None)


def sign_offs(package: Json, copy: Copy, signatures: Sequence[Signature]) -> SignOffs:
    """Gather the sign-offs that a copy shows."""
    run = package["training"]
    people = [run["launched_by"], *run["touched_by"]] if run else []
    standing = standing_signatures(signatures) if copy == "final" else []
    signers = tuple(dict.fromkeys(words(str(stage["role"])) for stage in wanted_stages(package) if stage["role"]))
    return SignOffs(copy, tuple(standing), frozenset(str(person["id"]) for person in people), signers)


def standing_signatures(signatures: Sequence[Signature]) -> list[Signature]:
    """Return each person's last word at each stage, in order of entry. Taking note of something replaces no approval or objection."""
    ordered = sorted(signatures, key=lambda s: int(s["entry_seq"]))
    last = {(s["person"], s["stage"], s["decision"] == "acknowledge"): s for s in ordered}
    return sorted(last.values(), key=lambda s: int(s["entry_seq"]))


def named(item: Signature) -> str:
    """Return who signed, as what, in which entry."""
    return f"{item['name']} ({words(str(item['role']))}, entry {item['entry_seq']})"


def wanted_stages(package: Json) -> list[Json]:
    """Return the stages at which people sign."""
    return [stage for stage in package["required_stages"]["stages"] if stage["kind"] == "sign_off"]


def complete(package: Json, signed: SignOffs) -> bool:
    """Whether every stage has its quorum and nobody objects. It says nothing about a release, which is decided elsewhere."""
    wanted = wanted_stages(package)
    return bool(wanted) and not signed.objections and all(_met(stage, signed) for stage in wanted)


def status(package: Json, signed: SignOffs, open_findings: int) -> tuple[str, str, str]:
    """Return the stamp, its tone and the line under it. The stamp states what was signed, never that a release is allowed."""
    wanted, found = wanted_stages(package), len(package["findings"])
    done = sum(_met(stage, signed) for stage in wanted)
    conditions = len(signed.conditions)
    line = f"{done} of {len(wanted)} sign-off stages signed"
    line += f"; conditions: {conditions}" if conditions else ""
    line += f"; findings: {found}"
    if signed.copy == "review":
        return "FOR REVIEW", "plain", f"{line}. Not signed: a copy to be read before signing."
    line += f", of them open at sign-off: {open_findings}" if found else ""
    if signed.objections:
        names = ", ".join(str(s["name"]) for s in signed.objections)
        return "NOT APPROVED", "bad", f"{line}; objections by {names}."
    if wanted and done == len(wanted):
        last = max(str(s["signed_at"]) for s in signed.standing)
        stamp = "APPROVED WITH CONDITIONS" if conditions else "APPROVED BY ALL STAGES"
        return stamp, "good", f"{line}; last signature {last}."
    return "SIGNATURES INCOMPLETE", "plain", f"{line}."


def _met(stage: Json, signed: SignOffs) -> bool:
    return len({s["person"] for s in signed.approvals if s["stage"] == stage["id"]}) >= int(stage["quorum"])


def built_before(package: Json, what: str) -> Block:
    """The remark of a final copy that its content is older than the signatures, and where these are."""
    return notice(
        bold(f"As of building, on {package['created']}, before any sign-off. "),
        f"{what} The sign-offs are ",
        see(ANCHOR, "Signatures"),
        " of this document.",
    )


def overview(package: Json, signed: SignOffs) -> list[Block]:
    """The sign-offs in short, with conditions and comments beside the decision; for the final copy."""
    titles = {stage["id"]: stage["title"] for stage in wanted_stages(package)}
    rows: list[list[Cell]] = []
    for item in signed.standing:
        said: list[Json] = []
        for number, condition in enumerate(item.get("conditions", ()), 1):
            said.append({"v": f"Condition {number}: {_condition(condition)}", "b": True, "n": bool(said)})
        if item.get("comments"):
            said.append({"v": f"Comment: {item['comments']}", "n": bool(said)})
        rows.append(
            [
                [bold(str(item["name"])), small(words(str(item["role"])) + _whose(item), n=True)],
                titles.get(item["stage"], str(item["stage"])),
                [{"v": words(str(item["decision"]))}, small(f"entry {item['entry_seq']}", n=True)],
                said or "none",
            ]
        )
    head = ["Who", "Stage", "Decision", "Conditions and comments"]
    blocks = [heading("Sign-offs in short", 2)]
    return blocks + table(head, [22, 22, 18, 38], rows, empty="nobody has signed this package")


def _condition(condition: Mapping[str, Any]) -> str:
    said = [str(condition["kind"]).replace("_", " ")] if condition.get("kind", "text") != "text" else []
    said += [f"{name} {value}" for name, value in (condition.get("limit") or {}).items()]
    said += [f"due {condition['due']}"] if condition.get("due") else []
    return f"{condition['text']} ({', '.join(said)})" if said else str(condition["text"])


def _whose(item: Mapping[str, Any]) -> str:
    """For whom a delegate signed."""
    behalf = item.get("on_behalf_of")
    return f", on behalf of {behalf['name']} (entry {behalf['entry_seq']})" if behalf else ""


def handling(finding: Json, signed: SignOffs, lines: Mapping[str, Json], *, all_signed: bool) -> tuple[str, bool]:
    """Return how a finding was handled, and whether it is open.

    Args:
        finding: one finding of the package.
        signed: the sign-offs that the copy shows.
        lines: requirement id -> its row.
        all_signed: see `complete`.
    """
    names = (finding["id"], *finding.get("requirements", ()))
    if signed.copy == "review":
        if finding["due"] in ("after release", "none"):
            return "nothing to do before the sign-off", False
        return f"open; a condition of a sign-off that names {finding['id']} accepts it{_who(signed)}", True
    if signed.objections:
        return "open: " + "; ".join(f"{named(s)} objects" for s in signed.objections), True
    given = accepting(finding, signed)
    accepted = [f"condition of {named(s)}: “{_condition(c)}”" for s, c in given]
    if accepted:
        return "accepted by " + "; ".join(accepted), False
    if finding["due"] in ("after release", "none"):
        return "nothing to do before the sign-off", False
    answered: list[str] = []
    by: list[str] = []
    for requirement in finding.get("requirements", ()):
        signatures, left = signed.answers(lines[requirement]) if requirement in lines else ([], [{}])
        if signatures and all(gap.get("after_release") for gap in left):
            answered.append(requirement)
            by += [named(s) for s in signatures]
    who = ", ".join(dict.fromkeys(by))
    later = [r for r in finding.get("requirements", ()) if r in lines and lines[r]["status"] == "after_release"]
    promised = {r: s for r in finding.get("requirements", ()) for s, c in signed.conditions if _names(c["text"], (r,))}
    done = {*answered, *later, *promised}
    still = [r for r in finding.get("requirements", ()) if r not in done]
    if (answered or promised) and not still:
        told = [f"answered by the sign-off of {who}"] if answered else []
        told += [f"{r} accepted by condition of {named(s)}" for r, s in promised.items() if r not in answered]
        return "; ".join(told), False
    text = "open at sign-off: " if all_signed else "open, sign-offs are not complete: "
    if promised:
        text += f"{', '.join(still)}; the rest is answered by {who}" if who else ", ".join(still)
        text += f"; accepted by condition: {', '.join(promised)}"
    else:
        text += f"{', '.join(still)}; the rest is answered by {who}" if answered else "no condition names it"
    comments = [
        f"{named(s)} wrote: “{s['comments']}”" for s in signed.standing if _names(str(s.get("comments") or ""), names)
    ]
    return "; ".join([text, *comments]), True


def accepting(finding: Json, signed: SignOffs) -> list[tuple[Signature, Mapping[str, Any]]]:
    """Return the conditions that accept a finding: those that name it as a whole, or between them all its requirements.

    A condition that names the finding and some of several requirements is about these only.
    """
    asked = tuple(finding.get("requirements", ()))
    parts = [(s, c) for s, c in signed.conditions if _names(c["text"], asked)]
    whole = [(s, c) for s, c in signed.conditions if _names(c["text"], (finding["id"],))]
    if len(asked) > 1:
        whole = [pair for pair in whole if pair not in parts]
    if asked and all(any(_names(c["text"], (name,)) for _, c in parts) for name in asked):
        whole += [pair for pair in parts if pair not in whole]
    return whole


def asked_for(finding: Json, signed: SignOffs) -> str:
    """Return who has to act on a finding and by when; where a condition accepts it instead, until when that holds."""
    text = f"{finding['owner']}; {finding['due']}"
    given = [] if signed.objections else accepting(finding, signed)
    if not given or finding["due"] in ("after release", "none"):
        return text
    due = sorted(str(condition["due"]) for _, condition in given if condition.get("due"))
    until = f"due {due[0]}" if due else "no date stated"
    return f"{finding['owner']}; asked for {finding['due']}; accepted by condition instead, {until}"


def _who(signed: SignOffs) -> str:
    return f"; it may be given by a {' or a '.join(signed.signers)}" if signed.signers else ""


def approvals_end(package: Json, item: Signature) -> str:
    """Return when an approval ends: days of the policy from its entry, or its own end if that is earlier; empty if unknown.

    Args:
        package: the package that was signed; its policy says how many days.
        item: a signature.
    """
    days = package["required_stages"]["approval_days"]
    ends = [str(item["expires"])] if item.get("expires") else []
    if days:
        since = datetime.strptime(str(item.get("recorded_at") or item["signed_at"]), "%Y-%m-%dT%H:%M:%SZ")
        ends.append((since + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return min(ends, default="")


def first_end(package: Json, signed: SignOffs) -> str:
    """Return when the first standing approval ends and when the first condition is due, as a sentence part; empty if unknown."""
    ends = sorted((end, str(s["name"])) for s in signed.approvals if (end := approvals_end(package, s)))
    if not ends:
        return ""
    text = f"the first of this copy, {ends[0][1]}'s, ends on {ends[0][0]}"
    due = sorted(str(condition["due"]) for _, condition in signed.conditions if condition.get("due"))
    return text + (
        f"; an approval stops counting earlier if a condition of it is overdue, first on {due[0]}" if due else ""
    )


def _names(text: str, names: Sequence[str]) -> bool:
    """Whether a text names one of the ids as a whole word."""
    return any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", text, re.IGNORECASE) for name in names)


def signature_blocks(package: Json, signed: SignOffs, waived: Mapping[str, str] | None = None) -> list[Block]:
    """The signature page: what each statement says; in a review copy, who is asked. `waived`: see `render_pdf`."""
    blocks = [heading("Signatures", anchor=ANCHOR)]
    wanted = wanted_stages(package)
    if not wanted:
        blocks.append(paragraph("The policy asks for no signature of a person at this tier."))
    blocks.append(
        paragraph(
            "Each signature covers a statement that names this package by its SHA-256, the model file, the decision and its meaning. "
            "The statements lie in the ledger; below is what they say."
            if signed.copy == "final"
            else "Open. Signatures are electronic: given with the signer's own key on a statement about this package. "
            "Nothing is signed on paper."
        )
    )
    for stage in wanted:
        strength = words(STRENGTHS.get(stage["min_strength"], "see the policy"))
        wanted_roles = {stage["role"]: int(stage["quorum"]), **stage.get("further_roles", {})}
        roles = " and ".join(f"{count} × {words(role)}" for role, count in wanted_roles.items())
        label = f"{stage['title']}: {roles}, strength {stage['min_strength']} ({strength}) or above"
        mine = [s for s in signed.standing if s["stage"] == stage["id"]]
        blocks += [_filled(s, label, approvals_end(package, s)) for s in mine]
        approved = {s["person"] for s in mine if s["decision"] in APPROVING}
        missing = max(0, sum(wanted_roles.values()) - len(approved))
        state = "Awaiting an electronic signature." if signed.copy == "review" else "No electronic signature so far."
        state = (waived or {}).get(stage["id"], state)
        blocks += [{"t": "signature", "filled": False, "stage": label, "state": state}] * missing
    known = {stage["id"] for stage in wanted}
    other = [s for s in signed.standing if s["stage"] not in known]
    return blocks + [_filled(s, f"Stage {s['stage']}", approvals_end(package, s)) for s in other]


def _meaning(item: Signature) -> Cell:
    """The meaning as it was signed; where conditions belong to the signature, a remark that they do."""
    if not item.get("conditions"):
        return str(item["meaning"])
    return [{"v": str(item["meaning"])}, small("Signed subject to the conditions below.", n=True)]


def _filled(item: Signature, label: str, end: str) -> Block:
    rows: list[list[Any]] = [
        ["Role", f"{words(str(item['role']))} ({item['person']}){_whose(item)}"],
        ["Meaning", _meaning(item)],
        ["Signed (UTC)", item["signed_at"]],
        ["Method", f"{item['method']}, strength {item['level']}"],
        ["Key", [mono(str(item["key_id"]))]],
        ["Statement", [mono(digest_text(str(item["statement_sha256"])))]],
        ["Ledger", f"entry {item['entry_seq']}"],
    ]
    if end and item["decision"] in APPROVING:
        rows.insert(3, ["Ends (UTC)", end])
    if item.get("comments"):
        rows.insert(2, ["Comments", item["comments"]])
    rows[2:2] = [["Condition", [bold(_condition(condition))]] for condition in item.get("conditions", ())]
    decision = str(item["decision"])
    return {
        "t": "signature",
        "filled": True,
        "stage": label,
        "name": item["name"],
        "decision": words(decision),
        "tone": "good" if decision in APPROVING else "bad",
        "rows": rows,
    }
