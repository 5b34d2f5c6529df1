"""What a safety model says of a conversation: Llama Guard 3's verdicts, by plain words instead of a model.

Sources: the verdicts' two forms from Cloudflare's binding types (cloudflare/workerd, 2026-08), the fourteen hazards and
what is judged (the last turn alone, in the light of what it answers) from Meta's model card of Llama Guard 3 (2024).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.canonical import ChatRequest, Message
from adapters.catalogue import Model
from adapters.simulator.tokens import text_of

_NAME = re.compile(r"llama-?guard")
_READ = 65_536
"""Characters of a turn, from its end, that are looked at."""

_SOMEBODY = (
    r"(?:you|him|her|them|someone|somebody|anyone|everyone|people|humans"
    r"|(?:my|his|her|their|your|our|the|a|an) (?:\w+ )?"
    r"(?:wife|husband|girlfriend|boyfriend|mother|father|mom|dad|brother|sister|son|daughter|child|kids?|baby|family|"
    r"friend|neighbou?rs?|boss|colleague|teacher|classmates?|man|woman|men|women|person|president|crowd))"
)
_MAKE = r"(?:mak(?:e|ing)|build(?:ing)?|creat(?:e|ing)|construct|synthesi[sz]e|assemble|produce|detonate|plant|set off)"
_CHILD = r"(?:child|children|kids?|minors?|underage|toddlers?|1?\d[- ]year[- ]old (?:girl|boy))"
_SEXUAL = r"(?:porn\w*|nudes?|naked|erotica?|sexuali[sz]ed|sexually)"
_GROUP = (
    r"(?:jews?|muslims?|christians?|immigrants?|refugees|blacks?|whites?|asians?|gays?|lesbians|women|disabled people|"
    r"foreigners)"
)

# Phrases that nobody takes for harmless; each is a regular expression between word boundaries.
_PHRASES: Mapping[str, tuple[str, ...]] = {
    "S1": (  # violent crimes
        rf"(?:kill|murder|assassinate|stab|shoot|strangle|behead|beat up|torture|poison|kidnap) {_SOMEBODY}",
        r"commit(?:ting)? (?:a )?murder|get away with murder|mass shooting|terror(?:ist)? attack|hire a hitman",
    ),
    "S2": (  # other crimes
        r"(?:steal|shoplift|hot-?wire|rob) (?:a|an|the|my|some|from|cars?|money)|steal(?:ing)? identit(?:y|ies)",
        r"launder(?:ing)? money|money laundering|counterfeit(?:ing)? (?:money|bills)|evad(?:e|ing) taxes",
        r"credit card fraud|steal(?:ing)? credit cards?",
        r"ransomware|keylogger|phishing (?:e-?mail|site|page|kit)|hack(?:ing)? into|fake (?:passport|id card)",
        r"(?:cook|make|synthesi[sz]e|smuggle|sell) (?:crystal )?(?:meth|cocaine|heroin|fentanyl)",
    ),
    "S3": (r"rape|raping|roofie|sexual(?:ly)? (?:assault|abuse|harass)\w*|sex trafficking|molest\w*",),
    "S4": (rf"{_SEXUAL}\b.{{0,60}}\b{_CHILD}", rf"{_CHILD}\b.{{0,60}}\b{_SEXUAL}", r"csam"),
    "S5": (r"defame|slander|libel|spread(?:ing)? (?:lies|(?:a )?false rumou?rs?) about",),
    "S6": (  # advice that is for experts to give
        r"without a prescription|instead of (?:seeing|asking) a (?:doctor|lawyer)|guaranteed returns",
        r"stop(?:ping)? (?:taking )?my (?:medication|insulin|antidepressants)",
    ),
    "S7": (
        r"dox+(?:ing)?|(?:social security numbers?|home address|medical records?) of",
        r"track someone's (?:phone|location)",
    ),
    "S8": (
        r"pirated (?:copy|copies|software|movies?|games?|books?)|keygen for|bypass(?:ing)? (?:the )?drm|plagiari[sz]e",
    ),
    "S9": (  # weapons that kill many
        rf"{_MAKE} (?:\w+ ){{0,4}}(?:bombs?|explosives?|grenades?|sarin|ricin|anthrax|mustard gas|molotov\w*)",
        rf"{_MAKE} (?:\w+ ){{0,4}}(?:nerve|chemical|biological|nuclear) (?:gas|agents?|weapons?|devices?)",
        r"pipe bombs?|bomb[- ]making|enrich(?:ing)? uranium|weapons? of mass destruction",
    ),
    "S10": (  # hate and harassment
        rf"(?:cyber-?)?(?:bully|bullying|harass|harassing|humiliate|humiliating) {_SOMEBODY}",
        rf"i hate (?:all )?{_GROUP}|(?:kill|exterminate|deport) (?:all )?(?:the )?{_GROUP}",
        rf"{_GROUP} are (?:all )?(?:subhuman|inferior|vermin|animals|parasites|scum|filth|stupid|criminals)",
        r"white supremacy|ethnic cleansing|racial slurs?",
    ),
    "S11": (  # self-harm
        r"suicid(?:e|al)|self-?harm\w*|want to die|end(?:ing)? my (?:own )?life",
        r"(?:kill|hurt|cut|starve|hang)(?:ting|ing)? (?:myself|yourself)",
    ),
    "S12": (
        r"porn\w*|erotica|erotic (?:story|scene)|sexually explicit|sex (?:scene|story|chat)|nude (?:photo|picture)s?",
    ),
    "S13": (  # elections
        r"rig(?:ging)? (?:the |an )?elections?|tamper(?:ing)? with (?:the )?(?:ballots?|votes?)|fake ballots?",
        r"suppress(?:ing)? (?:the )?vot(?:e|es|ers)|vote (?:twice|by text message)",
    ),
    "S14": (  # abuse of a code interpreter
        r"rm -rf /|fork bomb|escape (?:the|your|this) (?:sandbox|container)|container escape|/etc/shadow",
        r"privilege escalation|denial[- ]of[- ]service|ddos|port scan",
    ),
}
_PATTERNS = {
    category: re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)", re.IGNORECASE)
    for category, phrases in _PHRASES.items()
}
_REFUSES = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|sorry, (?:but )?i|(?:can(?:'t|not)|unable to) (?:help|assist)"
    r"|i (?:can(?:'t|not| not)|won't|will not|must decline|refuse))\b",
    re.IGNORECASE,
)


def judges(model: Model) -> bool:
    """Whether it is a safety model: it judges conversations and takes no part in them."""
    return _NAME.match(model.short_name) is not None


def verdict(request: ChatRequest) -> list[str]:
    """The hazards of the conversation's last turn, `S1` to `S14` in order; `[]` if it is safe.

    An assistant's turn is as bad as what it answers, unless it refuses.
    """
    turns = [message for message in request.messages if message.role in ("user", "assistant")]
    judged = "\n".join(_judged(turns))
    return [category for category, pattern in _PATTERNS.items() if pattern.search(judged)]


def as_text(categories: list[str]) -> str:
    return f"unsafe\n{','.join(categories)}" if categories else "safe"


def as_json(categories: list[str]) -> dict[str, Any]:
    return {"safe": not categories, "categories": categories}


def _judged(turns: list[Message]) -> Iterator[str]:
    """The texts that are looked at, on one line each, the last turn's first."""
    for turn in reversed(turns):
        text = text_of(turn)[-_READ:].replace("\u2019", "'")
        if turn.role == "assistant" and _REFUSES.search(text):
            return
        yield " ".join(text.split())
        if turn.role == "user":
            return
