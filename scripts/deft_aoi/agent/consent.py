"""Is this a clear go? A person's words as approval of the plan that was just shown.

Everything that is not plainly a go is not one: the words must consist of nothing but known affirmatives and polite
filler. So a question, a condition, a negation, a number or a parameter's name never approves anything, in any
language, and neither does a text that quotes an approval. Light imports only: hooks load this module.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 120

# Each phrase alone is a go. Spelled after `_plain`: NFKC, casefold, no apostrophes.
_GO = {
    "en": "go; go ahead; yes; yep; yeah; yup; y; ok; okay; proceed; approve; approved; i approve; confirm; confirmed; "
    "i confirm; start; start it; start the run; start the loop; run it; run the loop; run the plan; do it; "
    "lets go; lgtm; continue; begin; launch; launch it; go for it; please go; please go ahead; please proceed; "
    "please start; please run it; you may proceed; you may start; approved go; i approve this plan; "
    "i approve the plan; approve the plan; go on; kick it off; make it so; ship it; green light",
    "de": "ja; los; los gehts; los geht es; leg los; mach; mach es; mach das; starte; starten; start frei; "
    "einverstanden; freigegeben; freigabe erteilt; genehmigt; bestätigt; weiter; passt; passt so; jawohl; nur zu; "
    "bitte starten; bitte los; ausführen; ja bitte",
    "fr": "oui; vas y; allez y; cest bon; daccord; lance; lancez; lance le; approuvé; japprouve; confirmé; "
    "je confirme; continue; démarre; démarrez; cest parti; go",
    "es": "sí; si; adelante; dale; vale; apruebo; aprobado; procede; proceda; hazlo; de acuerdo; confirmo; "
    "confirmado; inicia; comienza; empieza; continúa",
    "it": "sì; vai; procedi; daccordo; va bene; approvo; approvato; avvia; confermo; conferma; continua; inizia",
    "pt": "sim; pode ir; prossiga; vai; aprovado; aprovo; pode começar; confirmo; inicie; iniciar; continue; pode prosseguir",
    "nl": "ja; ga door; ga maar; akkoord; doe maar; goedgekeurd; starten; begin",
    "pl": "tak; dalej; zgoda; uruchom; zatwierdzam; potwierdzam; startuj; zaczynaj",
    "cs": "ano; souhlasím; spusť; spusť to; pokračuj; schvaluji",
    "sv": "ja; kör; godkänn; godkänt; fortsätt; starta",
    "ru": "да; поехали; давай; запускай; запускайте; начинай; одобряю; подтверждаю; продолжай; согласен; согласна",
    "uk": "так; поїхали; запускай; починай; погоджуюсь; підтверджую",
    "tr": "evet; tamam; başla; başlat; onaylıyorum; onayla; devam; devam et",
    "zh": "好; 好的; 可以; 可以开始; 是; 是的; 同意; 开始; 開始; 开始吧; 开始运行; 继续; 批准; 执行; 执行吧; "
    "確認; 确认; 確定; 确定; 行; 没问题; 運行; 运行; 请开始; 请继续; 請開始; 繼續; 執行",
    "ja": "はい; お願いします; 開始; 開始してください; 開始して; 実行; 実行してください; 実行して; 進めて; 進めてください; "
    "承認; 承認します; どうぞ; 了解です進めてください; オーケー; はいお願いします",
    "ko": "네; 예; 진행; 진행해; 진행해주세요; 진행해 주세요; "
    "시작; 시작해; 시작해주세요; 시작해 주세요; 승인; 승인합니다; 좋아요; 좋습니다",
    "hi": "हाँ; हां; जी हाँ; शुरू करो; शुरू करें; आगे बढ़ो; आगे बढ़ें; मंज़ूर है; ठीक है",
    "ar": "نعم; ابدأ; موافق; تفضل; أوافق; استمر",
    "he": "כן; קדימה; מאשר; מאשרת; תתחיל",
    "fa": "بله; شروع کن; تایید; ادامه بده",
    "vi": "có; đồng ý; bắt đầu; tiếp tục; chạy đi; vâng",
    "th": "ตกลง; เริ่ม; เริ่มเลย; ใช่; อนุมัติ",
    "id": "ya; setuju; lanjut; lanjutkan; mulai; jalankan; silakan",
}

_FILLER = (
    "please; thanks; thank you; great; good; fine; perfect; looks good; looks good to me; all good; sounds good; "
    "nice; alright; all right; sure; now; thx; cheers; bitte; danke; gut; sieht gut aus; alles klar; super; merci; "
    "sil te plaît; sil vous plaît; parfait; gracias; perfecto; por favor; grazie; perfetto; obrigado; perfeito; "
    "dank je; dzięki; dobrze; спасибо; хорошо; отлично; teşekkürler; 谢谢; 謝謝; ありがとう; ありがとうございます; 了解; "
    "了解です; 감사합니다; 고마워; धन्यवाद; شكرا; תודה; terima kasih; baik; cảm ơn; the plan is fine; i have read it; "
    "i read it; read it"
)

_GO_PHRASES = frozenset(p.strip() for text in _GO.values() for p in text.split(";"))
_FILLER_PHRASES = frozenset(p.strip() for p in _FILLER.split(";"))
_SPLIT = re.compile(r"[.,!;:\n\r…·、。!,;:—–]+| and | und | et | и ")
_QUESTION = re.compile(r"[??؟;՞]")
_APPROVING_MARKS = "👍🚀✅🆗👌🏻🏼🏽🏾🏿️"


def _plain(words: str) -> str:
    text = unicodedata.normalize("NFKC", words).casefold()
    text = re.sub(r"['’‘`´]", "", text)
    text = re.sub(r"(?<=\w)-(?=\w)| - ", " ", text)
    return re.sub(r"[ \t\u3000]+", " ", text).strip()


def why_not(words: str, digest: str = "") -> str:
    """Why these words are not a clear go; the empty string where they are one.

    Args:
        words: exactly what the person typed.
        digest: the plan's digest; its first 12 or last 6 characters may stand in the words.

    Returns:
        A short reason, fit to be shown, that repeats nothing of ``words``.
    """
    if len(words) > MAX_CHARACTERS:
        return "it is more than a short answer"
    text = _plain(words)
    if not text:
        return "it is empty"
    if _QUESTION.search(text):
        return "it asks something"
    if any(unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\r\u200d\ufe0f" for c in words):
        return "it holds invisible characters"
    approving = any(mark in text for mark in "👍🚀✅🆗👌")
    text = "".join(c for c in text if c not in _APPROVING_MARKS)
    if digest:
        for part in (digest, digest[:12], digest[-6:]):
            if part in text.split() or text == part:
                text, approving = text.replace(part, " ").strip(), True
    for clause in _clauses(text):
        if clause in _GO_PHRASES:
            approving = True
        elif clause not in _FILLER_PHRASES and not _composed(clause):
            return "it says more than a plain go"
        elif _composed(clause):
            approving = True
    return "" if approving else "it does not say go"


def is_clear_go(words: str, digest: str = "") -> bool:
    """True where the words approve the plan that was just shown, and say nothing else."""
    return not why_not(words, digest)


def _clauses(text: str) -> list[str]:
    return [part for part in (p.strip() for p in _SPLIT.split(f" {text} ")) if part]


def _composed(clause: str) -> bool:
    """A run of phrases without commas, such as "yes please go ahead": each piece known, at least one a go."""
    words, at, go = clause.split(" "), 0, False
    while at < len(words):
        for end in range(len(words), at, -1):
            piece = " ".join(words[at:end])
            if piece in _GO_PHRASES or piece in _FILLER_PHRASES:
                go = go or piece in _GO_PHRASES
                at = end
                break
        else:
            return False
    return go
