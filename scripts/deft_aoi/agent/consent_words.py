"""Words of a go, by language: what alone is one (GO), what may stand beside one (BESIDE), what says no (NO) or asks (ASK).

Spelled as ``consent.plain`` writes a text: folded case, no apostrophes, no Latin, Greek or Cyrillic accents. Patterns are
regular expressions of one line; ``_`` is a space that may be missing in scripts without spaces. A word that means something else in
another language alone is no go (Polish "tak" is Malay "not", Czech "ano" a Japanese "um", Indonesian "ya" a Spanish "enough"): it
is listed only together with a word that decides it.
"""

# ruff: noqa: E501  (tables of words)
# fmt: off

_EN_THING = (
    r"(?:it|this|that|(?:with )?(?:it|this|that|(?:the|this|your|our|my) )?(?:deft |aoi |whole |first |full |planned )?"
    r"(?:loop|run|training|plan|job|pipeline|process|thing|fine tuning|finetuning|experiment|execution|approval))"
)
_EN_DO = (
    r"(?:go|go ahead|go for it|go on|start|begin|run|execute|launch|proceed|continue|carry on|do|kick off|kick it off|commence|"
    r"move ahead|move forward|get going|get started|get it going|get it started|get rolling|roll|fire it up|fire away|"
    r"let it run|let it rip|set it off|start up|approve|confirm|resume)"
)
_EN_WELL = r"(?:very |really |pretty |all |quite |perfectly |absolutely )?(?:good|great|fine|ok|okay|perfect|right|correct|excellent|alright|nice|reasonable|solid|awesome|fantastic)"
_DE_DING = (
    r"(?:es|das|dies|ihn|sie|(?:mit )?(?:es |das |den |die |der |dem |dein |deinen )?(?:ganze |ganzen )?"
    r"(?:lauf|training|loop|schleife|plan|durchlauf|vorgang|prozess|ausfuhrung|job|schritt|deft loop|optimierung))"
)
_ES_COSA = r"(?:lo|el|la|con el|con la|con esto|esto|eso|este|el entrenamiento|entrenamiento|el ciclo|el bucle|el loop|el plan|este plan|el proceso|la ejecucion|la corrida|el run|con el plan|con el entrenamiento|todo)"
_ZH_GO = r"(?:开始|開始|启动|啟動|运行|運行|执行|執行|继续|繼續|开跑|開跑|跑起来|跑起來|跑|开干|開幹|开工|開工|走起|出发|出發|推进|推進|进行|進行|批准|同意|确认(?!一下)|確認(?!一下)|确定|確定|认可|認可|赞成|贊成|通过|通過|授权|授權|放行|动手|動手|搞起来|搞起|冲|走你|干吧|来吧|來吧|上吧|走吧|照办|照辦|照做|就这样|就這樣|就这么办|就這麼辦|就这么做|就按这个来|按计划|按計劃)"
_JA_DO = r"(?:開始|実行|スタート|始動|続行|継続|着手|起動|進行|承認|許可|同意)"
_JA_PLEASE = r"(?:下さい|ください|くださいませ|ほしいです|もらえますと助かります|いいです(?:よ)?|いいよ|よいです(?:よ)?|良いです(?:よ)?|構いません|かまいません|大丈夫です(?:よ)?|ok(?:です)?(?:よ)?|おーけーです)"

GO = {
    "en": (
        r"y|yes|yep|yeah|yea|yup|yess+|aye|ok|okay|okey|k|kk|okie|okey dokey|sure|sure thing|sure go|fine|alright|all right|lgtm|"
        r"affirmative|roger|roger that|absolutely|definitely|certainly|of course|by all means|you bet|for sure|"
        r"go|gogo|approved?|agreed?|confirmed?|accepted|authori[sz]ed|granted|permission granted|approval granted|consent given|"
        r"green light|green lit|you have (?:my|the|our) (?:approval|permission|go|ok|okay|consent|blessing|green light|go ahead)|"
        r"(?:i|we) (?:hereby |fully |do |also |both )?(?:agree|approve|confirm|consent|accept|authori[sz]e)(?: (?:to |with )?" + _EN_THING + r")?|"
        r"(?:its|it is|thats|that is|plan is|the plan is|this is|consider it|all) (?:approved|confirmed|agreed|accepted|ok|okay|fine)(?: (?:by|with|for) me)?|"
        r"(?:plan|run|training|loop|summary) (?:approved|confirmed|accepted|ok|okay)|approved? " + _EN_THING + r"|confirm " + _EN_THING + r"|"
        r"(?:(?:it|that|this|the plan|the summary|plan|everything|all|the setup) )?(?:all )?(?:looks?|sounds?|seems?) (?:like a plan|" + _EN_WELL + r")(?: (?:to|for|by|with) (?:me|us))?|"
        r"(?:that|this|it|everything|the plan|the summary) ?(?:is|s) " + _EN_WELL + r"(?: (?:to|for|by|with) (?:me|us))?|(?:works|good|fine|ok|okay) (?:for|by|with) (?:me|us)|"
        r"(?:i|we) ?(?:am|m|are|re) (?:ok|okay|fine|good|happy|satisfied|on board) with (?:it|this|that|the plan|everything)|all good|good to go|were good to go|we are good to go|all systems go|"
        r"no objections?|no objections? from me|no concerns|works for me|make it so|ship it|send it|hit it|engage|have at it|knock yourself out|all set|"
        r"(?:just |then |so |now |and )*(?:(?:you|we) (?:can|may|are free to|are clear to|are good to|re good to|have to) |(?:i|we)(?:d| would)? (?:want|like) you to |feel free to |lets |let us |happy for you to |happy to |ready to |time to |cleared to |clear to )?(?:please |just |now |all |safely |kindly )*"
        + _EN_DO + r"(?: right)?(?: ahead| up)?(?: and (?:start|begin|run|proceed|launch|execute))?(?: " + _EN_THING + r")?"
    ),
    "de": (
        r"ja|jap|jep|jo|joa|jawohl|jup|jau|ja gerne|gerne|gern|klar|na klar|ja klar|sicher|sicherlich|naturlich|selbstverstandlich|in ordnung|"
        r"einverstanden|(?:das |es |alles )?passt(?: so| alles| fur mich| fuer mich)*|geht (?:klar|in ordnung)|(?:das )?ist (?:ok|okay|gut|in ordnung|genehmigt|freigegeben)(?: so)?|"
        r"(?:dann |und |so |also |na )*mach(?:en sie|t)?(?: es| das| mal| ruhig| bitte| so| los| weiter| jetzt| hin)*|(?:dann |also )?(?:leg|legen sie|legt) (?:bitte |jetzt |gleich |ruhig |dann )?los|(?:na dann |und |dann |auf )?los(?: (?:gehts|geht es|damit))?|auf gehts|auf los gehts los|"
        r"(?:(?:dann |jetzt |von mir aus |es |das |du |sie |wir |ihr )*(?:kann|kannst|konnen|koennen|konnt|darf|darfst|durfen|duerfen|soll|sollst) (?:" + _DE_DING + r" |ruhig |jetzt |bitte |gerne |gern |also |dann |es |wir |sie |mit )*(?:los|losgehen|los gehen|starten|anfangen|beginnen|loslegen|weitermachen|laufen|ausfuhren|ausfuehren|fortfahren|machen|loslaufen))|"
        r"(?:bitte |jetzt |dann |gleich |einfach )*(?:starten?|start(?:e|et)?|starten sie|beginne?n?|beginnen sie|losgehen|loslegen|anfangen|ausfuhren|ausfuehren|durchfuhren|durchfuehren|fortfahren|fortsetzen|weiter|weitermachen|laufen lassen|freigeben|los)(?: (?:bitte |jetzt |nun )*" + _DE_DING + r")?|"
        + _DE_DING + r" (?:bitte |jetzt )*(?:starten|beginnen|ausfuhren|ausfuehren|fortsetzen|freigeben|freigegeben|genehmigt|laufen lassen|anstossen|loslassen)|"
        r"(?:fang|fangen sie|fangt) (?:bitte |jetzt |ruhig |mal )*(?:mit " + _DE_DING + r" )?an|(?:fuhr|fuhre|fuehr|fuehre|fuhren sie) (?:bitte )?" + _DE_DING + r" (?:aus|durch)|(?:stoss|stosse) " + _DE_DING + r" an|"
        r"freigabe|freigabe (?:erteilt|ist erteilt)|(?:plan |ist |hiermit )?(?:freigegeben|genehmigt|bestatigt|bestaetigt|akzeptiert|angenommen|abgesegnet)|(?:meine )?(?:zustimmung|freigabe|genehmigung)(?: hast du| haben sie)?|du hast (?:mein ok|meine freigabe|meine zustimmung|grunes licht)|grunes licht|gruenes licht|zugestimmt|start frei|feuer frei|"
        r"ich (?:stimme (?:dem |dem plan |hiermit |voll )*zu|bin (?:damit |mit dem plan |voll )*einverstanden|(?:bestatige|bestaetige|genehmige|akzeptiere)(?: (?:es|das|den plan|hiermit))*|gebe (?:es |das |den plan |hiermit )*frei)|"
        r"(?:das |alles |der plan |plan )?(?:sieht|schaut) (?:alles |sehr |echt |soweit )*(?:gut|super|prima|ok|okay|toll|perfekt) aus|(?:das )?(?:klingt|hort sich|hoert sich) (?:alles |sehr )*(?:gut|super|prima|vernunftig)(?: an)?|alles (?:gut|bestens|ok|okay|in ordnung|super|prima|richtig)|"
        r"weiter(?: so| gehts)|mach weiter|gib gas|abfahrt|ab gehts|ab dafur|nur zu|lass (?:es |das |ihn |uns )*(?:laufen|losgehen|rennen|krachen|starten|anfangen|loslegen|machen)|von mir aus(?: gerne?| los)?|meinetwegen los|okidoki|keine einwande|keine einwaende|so machen wirs?(?: es| das)?|wird gemacht|los jetzt"
    ),
    "fr": (
        r"oui|ouais|oui oui|ok|daccord|dac|entendu|bien sur|evidemment|certainement|volontiers|(?:on )?(?:y va|vas? y|allons y|allez y)|on y va|allez|cest (?:bon|ok|parti|parfait|valide|approuve|daccord|parfait pour moi|bon pour moi|tout bon)|"
        r"(?:tu peux|vous pouvez|on peut) (?:y aller|lancer|commencer|demarrer|continuer|proceder|executer)(?: (?:le|la|l|lentrainement|le plan|la boucle|le run|tout))*|"
        r"(?:lance|lancez|demarre|demarrez|commence|commencez|execute|executez|procede|procedez|continue|continuez|poursuis|poursuivez|lancer|demarrer|commencer)(?: (?:le|la|ca|lentrainement|lentrainement|le plan|la boucle|le run|le processus))?|"
        r"(?:j|je )?(?:approuve|confirme|valide|accepte)(?: (?:le plan|ca|tout))?|japprouve(?: le plan)?|je suis daccord|approuve|valide|confirme|accepte|feu vert|(?:ca|tout) (?:me va|semble bon|marche|roule|a lair bien)|ca me semble (?:bon|bien|correct)|parfait pour moi|bon pour moi|fais le|faites le|faites|cest parti|allons y|go"
    ),
    "es": (
        r"si|sip|claro|claro que si|por supuesto|desde luego|vale|dale|venga|ok|okay|okey|oki|de acuerdo|estoy de acuerdo|conforme|adelante|vamos|vamos alla|vamonos|andando|a por ello|"
        r"(?:todo |eso |esto |el plan |me )*(?:esta|se ve|suena|parece|va) (?:todo |muy )?(?:bien|perfecto|genial|correcto|ok|bueno|estupendo|excelente)(?: (?:para mi|asi))?|me parece(?: muy)? (?:bien|perfecto|correcto|genial)|todo (?:bien|correcto|ok|perfecto|en orden)|por mi (?:bien|perfecto|adelante|ok)|"
        r"(?:ya |entonces |pues )?(?:puedes?|pueden|podemos|podes|puede) (?:ya )?(?:empezar|comenzar|iniciar|proceder|continuar|seguir|arrancar|ejecutar|lanzar|correr|hacer|iniciarl|empezarl|ejecutarl|lanzarl|hacerl)(?:o|a|os)?(?: adelante)?(?: " + _ES_COSA + r")?|"
        r"(?:por favor |entonces |pues |ya |ahora )*(?:empieza|empiece|empecemos|empezar|comienza|comience|comencemos|comenzar|inicia|inicie|iniciemos|iniciar|arranca|arranque|arrancalo|arrancamos|ejecuta|ejecute|ejecutar|ejecutalo|ejecutelo|lanza|lance|lanzalo|lancelo|corre|correlo|corra|correr|procede|proceda|procedamos|proceder|sigue|siga|sigamos|continua|continue|continuar|continuemos|prosigue|prosiga|inicialo|inicielo|empiezalo|haz|hazlo|hagalo|hagamoslo|hacedlo|dale nomas|empezamos|comenzamos|ponlo en marcha|pon en marcha|echa a andar)(?: (?:ya|ahora|" + _ES_COSA + r"))*|"
        r"(?:lo |la |yo |plan |queda |esta |te )*(?:apruebo|aprobado|aprobada|confirmo|confirmado|confirmada|acepto|aceptado|autorizo|autorizado|autorizada)(?: (?:el plan|este plan|todo))?|doy mi (?:aprobacion|visto bueno|consentimiento|ok)|tienes mi (?:aprobacion|permiso|visto bueno|ok)|tienes luz verde|luz verde|visto bueno|tiene mi aprobacion|manos a la obra|sin objeciones|me va bien|echale|metele|arre"
    ),
    "it": r"si|certo|certamente|vai|vai pure|vada pure|procedi|procedi pure|proceda|procediamo|daccordo|sono daccordo|va bene|ok|okay|approvo|approvato|avvia|avvia (?:il training|laddestramento|il ciclo|il piano)|confermo|confermato|conferma|continua|inizia|inizia pure|iniziamo|comincia|cominciamo|esegui|puoi (?:iniziare|partire|procedere|cominciare|andare)|parti|partiamo|andiamo|fallo|accetto|autorizzo|sembra (?:buono|ok|tutto ok|perfetto)|tutto (?:bene|ok|a posto)|mi sembra (?:buono|ok|perfetto)|luce verde|via libera|forza",
    "pt": r"sim|claro|com certeza|pode ir|pode (?:comecar|iniciar|prosseguir|continuar|rodar|executar|seguir|mandar)|podes (?:comecar|iniciar|avancar)|prossiga|prossegue|vai|va em frente|vamos|vamos la|bora|manda ver|avanca|avance|aprovado|aprovada|aprovo|eu aprovo|confirmo|confirmado|inicie|inicia|iniciar|comece|comeca|comecar|executa|execute|executar|roda|rode|continue|continua|de acordo|concordo|ok|okay|beleza|faca|faz isso|faca isso|esta (?:bom|bem|otimo|aprovado)|ta bom|parece (?:bom|otimo)|tudo (?:bem|certo|ok)|luz verde|siga|segue",
    "nl": r"ja|jazeker|zeker|natuurlijk|ga (?:door|verder|maar|je gang|ervoor)|ga maar door|akkoord|ik ga akkoord|doe maar|doe het|goedgekeurd|ik keur het goed|begin|begin maar|start|start maar|starten|start de (?:training|run|loop)|starten maar|prima|in orde|is goed|ok|oke|okay|ziet er goed uit|klinkt goed|je mag beginnen|je kunt beginnen|je mag starten|je kan starten|bevestigd|ik bevestig|toe maar|aan de slag|vooruit|groen licht",
    "pl": r"dalej|zgoda|zgadzam sie|uruchom|uruchamiaj|zatwierdzam|zatwierdzone|potwierdzam|potwierdzone|startuj|start|startujemy|zaczynaj|zaczynamy|zacznij|rozpocznij|rozpocznij trening|ruszaj|ruszamy|jedziemy|dzialaj|wykonaj|kontynuuj|akceptuje|oczywiscie|jasne|pewnie|mozesz (?:zaczac|zaczynac|startowac|uruchomic|ruszac|kontynuowac)|wyglada dobrze|brzmi dobrze|moze byc|w porzadku|do dziela|ok|okej|okay|tak (?:jest|prosze|uruchom|zaczynaj|dalej|start|zgadzam sie)",
    "cs": r"souhlasim|spust|spust to|spustte|pokracuj|pokracujte|schvaluji|schvaleno|potvrzuji|potvrzeno|zacni|zacnete|zacit|jed|jed na to|jedem|jdeme na to|muzes (?:zacit|spustit|pokracovat)|muzete (?:zacit|spustit|pokracovat)|jasne|urcite|samozrejme|dobre spust|vypada to dobre|vypada dobre|v poradku|do toho|suhlasim|zacinaj|ok|ano (?:prosim|spust|souhlasim|zacni|pokracuj)|ano ano",
    "nordic": r"ja|jo|javisst|absolut|sjalvklart|selvfolgelig|naturligvis|kor|kor pa|kor igang|kor i gang|kjor|kjor pa|kjor i gang|godkann|godkant|godkand|godkjent|godkendt|jag godkanner|jeg godkender|jeg godkjenner|fortsatt|fortsett|fortsaet|starta|starta traningen|start|starte|satt igang|satt i gang|sett i gang|saet i gang|begynn|begynd|borja|det ar okej|det er ok|det er greit|greit|okej|ok|ser bra ut|ser godt ud|ser bra ut for meg|later bra|hores bra ut|varsagod|vaer sa god|du kan (?:borja|starta|starte|begynne|begynde|kora|kore|kjore)|jag haller med|enig|bekraftat|bekreftet|bekraeftet|gront ljus|gront lys|full fart|kyllä|kylla|joo|juu|selva|totta kai|aloita|aloitetaan|anna menna|antaa menna|kaynnista|jatka|hyvaksyn|hyvaksytty|voit aloittaa|sopii|nayttaa hyvalta|kuulostaa hyvalta|ilman muuta|mene vaan|suorita",
    "hu": r"igen|rendben|mehet|indulhat|inditsd|inditsd el|indits|kezdd|kezdd el|kezdheted|kezdheti|kezdjuk|hajra|folytasd|jovahagyom|jovahagyva|elfogadom|egyetertek|termeszetesen|persze|jol nez ki|johet|gyerunk|futtasd|csinald|oke|ok",
    "el": r"ναι|ξεκινα|ξεκινησε|ξεκινηστε|ξεκιναμε|προχωρα|προχωρησε|προχωρηστε|συνεχισε|εγκρινω|εγκρινεται|συμφωνω|συμφωνοι|παμε|βεβαιως|φυσικα|οκ|ενταξει|μπορεις να ξεκινησεις|καντο|επιβεβαιωνω|φαινεται καλο",
    "ro": r"da porneste|porneste|incepe|incepeti|continua|aprob|aprobat|de acord|sunt de acord|confirm|confirmat|sigur|bineinteles|desigur|haide|mergi mai departe|da continua|da incepe|poti incepe|da te rog|arata bine|ok|dai drumul",
    "ru": r"да|ага|угу|ок|окей|конечно|разумеется|поехали|погнали|вперед|давай|давайте|давай запускай|запускай|запускайте|запускаи|запускаите|запусти|запустите|начинай|начинайте|начинаи|начинаите|начни|начните|начинаем|стартуй|стартуи|старт|пуск|одобряю|одобрено|подтверждаю|подтверждено|утверждаю|утверждено|продолжай|продолжайте|продолжаи|продолжаите|согласен|согласна|согласны|принято|выполняй|выполняи|выполни|можно начинать|можно запускать|можешь (?:начинать|запускать|приступать)|можете (?:начинать|запускать|приступать)|приступай|приступаи|приступайте|приступаите|делай|делаи|действуй|деиствуи|годится|все хорошо|выглядит хорошо|выглядит отлично|звучит хорошо|запускаем|добро|даю добро|без возражений|без возражении|запусти обучение|запускай обучение|запускаи обучение|начинай обучение|начинаи обучение",
    "uk": r"так запускай|поихали|запускай|запускаи|запускайте|запускаите|починай|починаи|починайте|почнемо|розпочинай|розпочинаи|погоджуюсь|згоден|згодна|пидтверджую|підтверджую|схвалюю|схвалено|звичайно|звичаино|продовжуй|продовжуи|добре запускай|можна починати|давай|вперед|вигляда[єе] добре|поїхали|так (?:починай|починаи|запускаи|звичайно|згоден|будь ласка)|запустіть|почни",
    "sr": r"моze|moze|pokreni|pokrenite|kreni|krenite|nastavi|nastavite|odobravam|odobreno|slazem se|u redu|potvrdujem|potvrđujem|naravno|zapocni|pocni|pozeni|zaženi|zacni|soglasam|strinjam se|da pokreni|da kreni|да покрени|покрени|крени|настави|одобравам|слажем се|стартирай|стартираи|започни|продължи|съгласен|съгласна|одобрявам|потвърждавам|деиствай|деиствaи",
    "tr": r"evet|tamam|tamamdir|olur|peki|elbette|tabii|tabii ki|tabi|basla|baslat|baslayin|baslatin|baslayabilirsin|baslayabilirsiniz|baslatabilirsin|baslayalim|onayliyorum|onayla|onaylandi|onay|onay veriyorum|onaylarim|kabul|kabul ediyorum|katiliyorum|devam|devam et|devam edin|devam edebilirsin|calistir|calistirin|hadi|haydi|hadi basla|hadi baslayalim|iyi gorunuyor|guzel gorunuyor|uygun|uygundur|egitimi baslat|ilerle|yap",
    "ko": r"네|넵|넹|예|응|그래|그래요|그럼요|물론|물론이죠|물론입니다|좋아|좋아요|좋습니다|좋네요|괜찮아 보여요|괜찮아 보입니다|좋아 보여요|좋아 보입니다|오케이|오키|ㅇㅇ|ㅇㅋ|ㄱㄱ|"
    r"(?:지금 |바로 |그대로 |이대로 |그럼 |이제 |계획을 |계획 |학습을 |학습 |훈련을 |훈련 |루프를 |루프 |실행을 )*(?:시작|진행|실행|승인|동의|계속|계속 진행|허가|찬성)(?:_?(?:해|해요|하세요|해주세요|해주십시오|해줘|해줘요|해봐|합시다|하자|하죠|하시죠|합니다|할게요|하십시오|하시면 됩니다|하면 됩니다|하면 돼요|해도 돼|해도 돼요|해도 됩니다|해도 좋아요|해도 좋습니다|해도 괜찮아요|함|됨|됐습니다|했습니다|부탁합니다|부탁해요|부탁드립니다|드립니다|주세요|줘))?|가자|갑시다|고고|부탁합니다|부탁드려요|문제없습니다|문제 없습니다|문제없어요|이의 없습니다|그렇게 해주세요|그렇게 하세요",
    "hi": r"हाँ|हां|जी हाँ|जी हां|जी|शुरू करो|शुरू करें|शुरू कीजिए|शुरू कर दो|चालू करो|चलाओ|चलो|आगे बढ़ो|आगे बढ़ें|मंज़ूर है|मंजूर है|ठीक है|सहमत|मैं सहमत हूँ|स्वीकृत|haan|haan ji|shuru karo|shuru karen|theek hai|thik hai|aage badho|chalo shuru karo",
    "bn": r"হ্যাঁ|শুরু করুন|শুরু করো|ঠিক আছে|চালিয়ে যান|অনুমোদিত",
    "ar": r"نعم|اجل|أجل|ابدأ|ابدا|إبدأ|ابدأ الآن|ابدأ التدريب|موافق|موافقة|أنا موافق|اوافق|أوافق|تفضل|استمر|تابع|تمام|حسنا|حسنًا|طبعا|بالتأكيد|انطلق|نفذ|شغل|يلا|هيا|أكمل|أؤكد|على بركة الله|لا مانع",
    "he": r"כן|קדימה|מאשר|מאשרת|אני מאשר|אני מאשרת|מאושר|תתחיל|תתחילי|התחל|אפשר להתחיל|סבבה|בסדר|בטח|כמובן|תריץ|הרץ|תמשיך|המשך|יאללה|נראה טוב|צא לדרך",
    "fa": r"بله|آره|شروع کن|شروع کنید|شروع|تایید|تأیید|تایید می کنم|تایید میکنم|ادامه بده|ادامه دهید|موافقم|باشه|حتما|اجرا کن|بفرمایید|خوبه شروع کن",
    "ur": r"ہاں|جی ہاں|شروع کریں|شروع کرو|ٹھیک ہے|منظور ہے",
    "vi": r"co bat đau đi|đong y|toi đong y|bat đau|bat đau đi|bat đau nhe|tiep tuc|tiep tuc đi|chay đi|chay|vang|vang bat đau đi|đuoc|đuoc roi|đuoc bat đau đi|đuoc chay đi|ok|oke|xac nhan|phe duyet|duyet|tien hanh|tien hanh đi|lam đi|trien khai|trien khai đi|hay bat đau",
    "th": r"ตกลง|เริ่ม|เริ่มเลย|เริ่มได้|เริ่มได้เลย|ใช่|อนุมัติ|ได้|ได้เลย|โอเค|เอาเลย|ดำเนินการ|ดำเนินการได้|ดำเนินการได้เลย|ดำเนินการต่อ|ทำเลย|จัดไป|เห็นด้วย|ลุยเลย|ไปเลย|ยืนยัน|รันเลย|ดำเนินการเลย",
    "id": r"setuju|saya setuju|lanjut|lanjutkan|lanjut saja|mulai|mulai saja|mulailah|mulakan|jalankan|silakan|silakan mulai|silakan lanjut|silahkan|boleh|boleh mulai|oke|ok|baik mulai|baik lanjutkan|teruskan|ya (?:mulai|lanjut|lanjutkan|jalankan|silakan|setuju|boleh|benar|tentu)|iya|iya mulai|siap jalankan|tentu|tentu saja|saya menyetujui|disetujui|teruskan|bagus lanjutkan|sila mulakan|sige na|simulan mo|simulan na|simulan",
    "zh": _ZH_GO + r"|好(?!了)|好的|好啊|好呀|好滴|好嘞|好吧|行(?!了)|行的|行啊|行吧|中|妥|可以|可以的|没问题|沒問題|没有问题|沒有問題|是|是的|对(?!了)|對|对的|對的|嗯嗯|没意见|沒意見|无异议|無異議|没毛病|我(?:们|們)?(?:同意|批准|确认(?!一下)|授权|认可)|(?:那|那就)?(?:我们|我們|咱们)(?:就)?(?:开始|開始|走起|继续)|看起来不错|看起來不錯|看着不错|看起来很好|看起来没问题|看起来可以|看上去不错|看上去没问题|当然|當然|当然可以|完全同意|就它了|得|成|得嘞|安排|ok|okay|go",
    "ja": (
        r"はい|ええ|うん|お願い(?:し|いたし|致し)ます|おねがいします|お願い|よろしく(?:お願い(?:し|いたし|致し)ます|おねがいします)?|宜しくお願い(?:し|いたし|致し)ます|どうぞ|もちろん(?:です)?|勿論です|ok|okです|okay|おーけー|おーけーです|おっけー|おっけーです|オーケー(?:です)?|オッケー(?:です)?|オケ|ゴー|go|ゴーサイン(?:です)?|"
        + _JA_DO
        + r"(?:して(?:"
        + _JA_PLEASE
        + r")?|を?お願い(?:し|いたし|致し)ます|で(?:お願いします)?|しましょう|しよう|しろ|せよ|ok|どうぞ)?|(?:承認|同意|許可|賛成)(?:します|する|いたします|しました|いたしました|済み|です)|"
        r"(?:始め|はじめ|進め|すすめ|続け|つづけ)(?:て(?:" + _JA_PLEASE + r"|いきましょう)?|ましょう|よう|ろ|てくれ|ちゃって)|(?:やっ|走らせ|回し|動かし|やっちゃっ)て(?:" + _JA_PLEASE + r"|くれ)?|やりましょう|やろう|行きましょう|いきましょう|行こう|いこう|いけ|行け|頼みます|頼む|たのむ|任せます|お任せします|"
        r"いいです(?:よ|ね)|いいよ|いいね|良いです(?:よ|ね)|よいです(?:よ|ね)|いいと思います|良いと思います|(?:これ|それ|この内容|その内容|この計画|この設定|そのまま|このまま)で(?:いい|良い|よい|大丈夫|問題ない|問題ありません|結構|ok|進めて|お願い)?(?:です|ます|します)?(?:よ)?|(?:特に)?問題(?:あり|ござい)ません|問題ない(?:です)?|問題なし(?:です)?|異議なし|異論ありません|異存ありません|賛成(?:です|します)?|よさそう(?:です)?(?:ね)?|良さそう(?:です)?(?:ね)?|(?:内容|計画)(?:を)?(?:確認しました|承認します|に同意します)|許可|スタート"
    ),
}

BESIDE = {
    "en": r"please|pls|plz|kindly|thanks|thank you|thanks a lot|thank you very much|many thanks|thx|ty|cheers|great|good|perfect|nice|excellent|awesome|cool|wonderful|lovely|brilliant|super|very good|well done|nice work|good job|great job|great work|good work|now|right now|right away|straight away|immediately|asap|already|then|so|well|ah|oh|right|correct|exactly|understood|got it|noted|i see|i understand|ready|im ready|i am ready|we are ready|claude|agent|codex|everyone|team|guys|mate|buddy|man|sir|boss|my friend|(?:i have|ive|i) (?:read|checked|reviewed|seen|looked at) (?:it|it all|everything|this|that|the plan|the summary|the whole summary|all)|read it|the plan|this plan|plan|for me|from me|by me|from my side|on my side|no problem|no worries|no questions|no changes|no further questions|nothing to add|nothing to change|"
    r"(?:and |then |just |please )*(?:let me know|tell me|ping me|notify me|message me|text me|inform me|alert me|report back|report|keep me posted|keep me updated|keep me informed|update me|give me a shout|come back to me|call me|write me|show me (?:the )?(?:results?|report))(?: (?:here|please|again))?(?: (?:when|once|as soon as|after|at) (?:(?:it|its|it is|its all|youre|you are|that is|thats|its been|the run is|the loop is|training is|the training is|everything is|all is|it has|it all|the end|you|the loop has|the run has|the training has) ?)?(?:all )?(?:done|finished|finishes|finish|ready|complete|completed|completes|over|through|ended|ends)?)?|"
    r"(?:ill|i will|i) (?:wait|be waiting|wait here|be here|check back later|come back later)|in advance|have fun|take your time|🙏|🎉|🙂|😀|😊|😄|😁|👏|💪|✨|🤞|🔥|🙌|:\)|:-\)|:d|;\)|\^\^",
    "de": r"bitte|bitte schon|danke|danke schon|dankeschon|vielen dank|danke dir|danke ihnen|besten dank|gut|sehr gut|super|prima|perfekt|toll|klasse|bestens|wunderbar|top|alles klar|verstanden|jetzt|gleich|sofort|direkt|nun|dann|also|na|so|mal|ruhig|doch|schon|hiermit|kein problem|keine fragen|keine anderungen|den plan|der plan|plan|ich habe (?:es|alles|den plan|die zusammenfassung) (?:gelesen|gepruft|geprueft)|habe ich gelesen|gelesen|gepruft|"
    r"(?:und |dann |bitte )*(?:sag|sage|sagen sie|gib|geben sie|melde|meld|melden sie|schreib|informier|informiere|benachrichtige)(?: (?:mir|dich|sich|mich))*(?: (?:bitte|dann|kurz|bescheid))*(?: (?:wenn|sobald)(?: (?:es|du|der lauf|das training|alles|sie))?(?: (?:fertig|durch|vorbei|beendet|zu ende))?(?: (?:ist|bist|sind))?)?",
    "fr": r"merci|merci beaucoup|parfait|super|tres bien|bien|genial|excellent|impeccable|nickel|sil (?:te|vous) plait|stp|svp|maintenant|tout de suite|alors|donc|et|compris|pas de probleme|(?:et )?(?:previens|prevenez|dis|dites|avertis) moi (?:quand|des que) cest (?:fini|termine|pret)|le plan|ce plan|tout",
    "es": r"gracias|muchas gracias|mil gracias|por favor|porfa|porfavor|perfecto|bien|muy bien|genial|excelente|estupendo|bueno|correcto|listo|entendido|ahora|ahora mismo|ya mismo|enseguida|entonces|pues|sin problema|no hay problema|el plan|este plan|todo|y|(?:y )?(?:avisame|avisa|avisenme|aviseme|dime|notificame|me avisas)(?: (?:cuando|al)(?: (?:termine|termines|acabe|acabes|este listo|este|acabar|terminar|hayas terminado|finalice))?(?: listo)?)?",
    "it": r"grazie|grazie mille|perfetto|ottimo|bene|benissimo|molto bene|per favore|per cortesia|ora|adesso|subito|allora|capito|pure|il piano|avvisami quando hai finito|fammi sapere quando hai finito",
    "pt": r"obrigad[oa]|muito obrigad[oa]|perfeito|otimo|bom|muito bom|por favor|pfv|agora|ja|entao|entendido|o plano|me avise quando terminar|avise quando terminar",
    "nl": r"dank je|dankje|dank u|bedankt|alsjeblieft|alstublieft|aub|goed|perfect|mooi|top|dan|maar|begrepen|het plan|laat me weten als het klaar is|laat maar weten als het klaar is",
    "pl": r"prosze|dzieki|dziekuje|dobrze|swietnie|super|teraz|juz|rozumiem|daj znac (?:jak|gdy) skonczysz|no to",
    "cs": r"prosim|diky|dekuji|dakujem|dobre|skvele|super|ted|hned|rozumim|hotovo",
    "nordic": r"tack|tack sa mycket|takk|bra|fint|perfekt|flott|supert|super|snalla|vanligen|venligst|vennligst|vaer sa snill|kiitos|hyva|hienoa|nyt|ole hyva|sag till nar det ar klart|si fra nar det er ferdig",
    "hu": r"koszonom|koszi|kerem|kerlek|jo|remek|szuper|tokeletes|most|szolj ha kesz",
    "el": r"ευχαριστω|παρακαλω|τωρα|τελεια|ωραια|καλα|πολυ καλα",
    "ro": r"da|multumesc|mersi|te rog|va rog|bine|perfect|acum|super",
    "ru": r"спасибо|большое спасибо|пожалуйста|пожалуиста|хорошо|отлично|прекрасно|супер|ладно|понятно|понял|поняла|сеичас|ну|тогда|и|план|обучение|прошу|сообщи когда закончишь|напиши когда закончишь|дай знать когда закончишь|даи знать когда закончишь|все верно|все понятно|вопросов нет",
    "uk": r"так|дякую|будь ласка|добре|чудово|зараз|гаразд",
    "sr": r"да|hvala|molim|dobro|super|odlicno|odmah|sada|благодаря|моля|хвала|молим|добре",
    "tr": r"tesekkurler|tesekkur ederim|sagol|sag ol|lutfen|guzel|harika|super|iyi|cok iyi|mukemmel|simdi|hemen|anladim|o zaman|bitince haber ver",
    "ko": r"감사합니다|고마워|고마워요|고맙습니다|알겠습니다|알겠어요|확인했습니다|확인|지금|바로|이제|그럼|계획|이대로|그대로|훌륭합니다|완벽합니다|끝나면 알려주세요|끝나면 알려 주세요|완료되면 알려주세요|완료되면 알려 주세요|끝나면 알려줘",
    "hi": r"धन्यवाद|शुक्रिया|कृपया|अब|अभी|बढ़िया|अच्छा|dhanyavaad|shukriya|kripya|accha",
    "bn": r"ধন্যবাদ|দয়া করে|ভালো",
    "ar": r"شكرا|شكرًا|شكرا لك|شكرا جزيلا|من فضلك|رجاء|الآن|الان|ممتاز|جيد|جيد جدا|رائع|على الفور|فورا",
    "he": r"תודה|תודה רבה|בבקשה|עכשיו|מעולה|מצוין|יופי|טוב",
    "fa": r"ممنون|مرسی|لطفا|لطفاً|الان|عالی|خوب|خیلی ممنون|متشکرم",
    "ur": r"شکریہ|براہ کرم|ابھی",
    "vi": r"cam on|cam on ban|cam on nhe|xin|vui long|lam on|ngay|ngay bay gio|tot|tot lam|rat tot|đi|nhe|a|ban|tuyet|tuyet voi",
    "th": r"ครับ|ค่ะ|คะ|นะ|นะครับ|นะคะ|ขอบคุณ|ขอบคุณครับ|ขอบคุณค่ะ|กรุณา|โปรด|ตอนนี้|ดี|ดีมาก|เลย|เยี่ยม",
    "id": r"terima kasih|makasih|tolong|mohon|baik|bagus|sekarang|segera|sip|oke|siap|kabari kalau sudah selesai|kabari saya kalau sudah selesai|salamat|pakiusap",
    "zh": r"请|請|麻烦|麻煩|谢谢|謝謝|多谢|多謝|感谢|谢谢你|谢谢您|辛苦了|辛苦|了|吧|啊|呀|哦|哈|啦|嘛|那|那就|那么|就|你|您|一下|现在|現在|马上|馬上|立即|立刻|立马|赶紧|尽快|直接|这个|這個|这|這|该|此|按|按照|照|计划|計劃|方案|训练|訓練|循环|循環|任务|任務|流程|程序|模型|很好|非常好|不错|不錯|太好了|挺好|完美|棒|收到|明白|明白了|知道了|了解|看过了|看了|完成后(?:请)?(?:告诉|通知)我(?:一声)?|(?:跑|弄|做|训练)?(?:完|好)(?:了|之后|后)?(?:请|再)?(?:告诉|通知|叫)我(?:一声|一下)?|结束后(?:请)?(?:告诉|通知)我|有结果(?:了)?(?:请)?(?:告诉|通知)我|結束後(?:請)?通知我|完成後(?:請)?(?:告訴|通知)我|可以了",
    "ja": r"ありがとう(?:ございます|ございました)?|どうも|感謝します|すみません|了解(?:です|しました|いたしました)?|承知(?:です|しました|いたしました)|かしこまりました|わかりました|分かりました|なるほど|大丈夫(?:です)?|いいです|では|じゃあ|じゃ|それでは|それじゃあ|それで|これで|このまま|そのまま|さっそく|早速|今すぐ|すぐに|すぐ|今|いま|ぜひ|是非|早く|この|その|訓練|学習|トレーニング|ループ|処理|計画|プラン|内容|設定|確認しました|読みました|完璧です|素晴らしい(?:です)?|最高です|ばっちりです|バッチリです|を|の|で|ね|よ|(?:終わっ|完了し|終了し)たら(?:、)?(?:教えて|知らせて|連絡して|報告して|連絡|報告|ご連絡)(?:を)?(?:ください|下さい|お願いします|ね|くれ)?",
}

NO = (
    r"no|nope|nah|nay|not|dont|do not|doesnt|cant|cannot|never|stop|cancel|abort|wait|hold|halt|reject(?:ed)?|refuse|decline[d]?|later|deny|denied|"
    r"nein|ne|nee|nicht|nichts|kein|keine|keinen|noch nicht|stopp|halt|warte|warten|abbrechen|abbruch|spater|non|pas|jamais|attends|attendez|arrete|annule|"
    r"nunca|espera|espere|alto|detente|cancela|para|todavia|tampoco|nao|pare|espere|cancele|aspetta|ferma|annulla|mai|niet|nooit|wacht|nie|czekaj|stoj|ne|neni|pockej|"
    r"nej|nei|inte|ikke|ikkje|vanta|vant|ei|ala|odota|nem|varj|megse|οχι|μη|περιμενε|nu|asteapta|нет|не|стои|стой|подожди|отмена|ни|ні|чекай|hayir|yok|dur|bekle|iptal|degil|"
    r"아니|아니요|아니오|아뇨|안|안돼|안돼요|멈춰|멈추세요|잠깐|잠깐만|기다려|취소|중지|नहीं|मत|रुको|না|لا|ليس|توقف|انتظر|لن|לא|אל|עצור|חכה|نه|خیر|صبر کن|نہیں|khong|đung|chua|khoan|cho|ไม่|หยุด|รอ|อย่า|tidak|jangan|tak|belum|tunggu|batal|hindi|huwag"
)
NO_SIGNS = ("不", "别", "別", "没有同意", "停", "等", "取消", "算了", "暂停", "勿", "いいえ", "いや", "やめ", "止め", "ない", "待って", "ません", "まだ", "中止", "だめ", "駄目", "결코", "하지 마", "하지마", "ไม่", "อย่า")
ASKING = r"what|why|how|who|which|where|when will|is it|are you|are we|can you|could you|should (?:i|we)|do you|does it|explain|was|wie|warum|wieso|wann|welche|pourquoi|comment|combien|quel|que|por que|como|cuanto|cual|perche|quanto|waarom|hoe|dlaczego|jak|proc|почему|как|сколько|что|neden|nasil|kac"
ASKING_SIGNS = ("吗", "嗎", "么", "呢", "什么", "什麼", "为什么", "多久", "多少", "几", "ですか", "ますか", "でしょうか", "なぜ", "どう", "何", "까요", "나요", "습니까", "क्या", "क्यों")
CONDITION = r"if|unless|once|until|after|before|when|as soon as|tomorrow|tonight|later|but|except|however|only|with|without|use|using|change|set|instead|wenn|falls|sobald|aber|erst|morgen|nur|ohne|statt|mit|andere|nimm|mais|quand|demain|sauf|avec|sans|change|pero|cuando|manana|despues|con|sin|cambia|usa|ma|domani|quando|mas|amanha|maar|morgen|als|ale|jutro|jesli|если|но|когда|завтра|только|ama|yarin|eger"

REPLY = {
    "en": "please reply: go", "de": "bitte antworten: go", "fr": "veuillez répondre : go", "es": "por favor responda: go", "it": "per favore rispondi: go",
    "pt": "por favor responda: go", "nl": "antwoord alstublieft: go", "pl": "proszę odpowiedzieć: go", "cs": "odpovězte prosím: go", "nordic": "svara / svar: go",
    "hu": "kérem, válaszoljon: go", "el": "παρακαλώ απαντήστε: go", "ro": "vă rog răspundeți: go", "ru": "пожалуйста, ответьте: go", "uk": "будь ласка, відповідайте: go",
    "tr": "lütfen yanıtlayın: go", "ko": "go 라고 답해 주세요", "hi": "कृपया उत्तर दें: go", "ar": "من فضلك أجب: go", "he": "נא להשיב: go", "fa": "لطفاً پاسخ دهید: go",
    "vi": "vui lòng trả lời: go", "th": "โปรดตอบ: go", "id": "mohon balas: go", "zh": "请回复：go", "ja": "「go」とお答えください",
}  # fmt: skip
HINTS = {
    "de": "nein nicht noch erst und wie was warum warte ich mit ist das bitte", "fr": "non pas quoi pourquoi attends je le la est avec mais", "es": "pero que como cuando espera no gracias ya con el la por",
    "it": "ma che come perche aspetta con il grazie", "pt": "nao mas o que como espere com obrigado", "nl": "niet nee wacht maar het een waarom", "pl": "nie tak czekaj ale dlaczego prosze jak", "cs": "ne ano pockej ale proc prosim jak",
    "tr": "hayir evet ama neden nasil bekle", "vi": "khong chua cam on", "id": "tidak jangan belum ya kenapa tolong", "nordic": "nej nei inte ikke ikkje vanta hvorfor varfor tack takk", "hu": "nem varj miert", "ro": "nu asteapta de ce",
}
