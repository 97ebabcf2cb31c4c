"""German nouns with gender, plural and meaning, and function words. Our own lists."""

from __future__ import annotations

from ..tables import listed, sequences

# singular:gender:plural:meaning; "-" where there is no plural to count
_NOUNS = """
ball:m:bälle:ball würfel:m:würfel:cube kegel:m:kegel:cone pyramide:f:pyramiden:toy kugel:f:kugeln:ball
zylinder:m:zylinder:toy
kreis:m:kreise:ball quadrat:n:quadrate:toy dreieck:n:dreiecke:toy stern:m:sterne:star herz:n:herzen:toy
katze:f:katzen:cat kater:m:kater:cat kätzchen:n:kätzchen:kitten hund:m:hunde:dog welpe:m:welpen:puppy
pferd:n:pferde:horse
kuh:f:kühe:cow schaf:n:schafe:sheep ziege:f:ziegen:goat schwein:n:schweine:pig esel:m:esel:donkey
huhn:n:hühner:chicken
hahn:m:hähne:rooster ente:f:enten:duck gans:f:gänse:goose vogel:m:vögel:bird eule:f:eulen:owl adler:m:adler:eagle
möwe:f:möwen:seagull papagei:m:papageien:parrot hase:m:hasen:hare kaninchen:n:kaninchen:rabbit maus:f:mäuse:mouse
fuchs:m:füchse:fox wolf:m:wölfe:wolf bär:m:bären:bear teddybär:m:teddybären:doll hirsch:m:hirsche:deer reh:n:rehe:deer
löwe:m:löwen:lion tiger:m:tiger:tiger elefant:m:elefanten:elephant giraffe:f:giraffen:giraffe zebra:n:zebras:zebra
affe:m:affen:monkey pinguin:m:pinguine:penguin fisch:m:fische:fish wal:m:wale:whale delfin:m:delfine:dolphin
frosch:m:frösche:frog schlange:f:schlangen:snake schildkröte:f:schildkröten:turtle
schmetterling:m:schmetterlinge:butterfly
biene:f:bienen:bee käfer:m:käfer:beetle drache:m:drachen:dragon einhorn:n:einhörner:unicorn igel:m:igel:hedgehog
eichhörnchen:n:eichhörnchen:squirrel schwan:m:schwäne:swan storch:m:störche:stork krokodil:n:krokodile:crocodile
mann:m:männer:man frau:f:frauen:woman kind:n:kinder:child junge:m:jungen:boy mädchen:n:mädchen:girl baby:n:babys:baby
mensch:m:menschen:person person:f:personen:person leute:p:leute:people könig:m:könige:king königin:f:königinnen:queen
ritter:m:ritter:knight prinzessin:f:prinzessinnen:princess zauberer:m:zauberer:wizard hexe:f:hexen:witch
roboter:m:roboter:robot astronaut:m:astronauten:astronaut soldat:m:soldaten:soldier bauer:m:bauern:farmer
koch:m:köche:chef lehrer:m:lehrer:teacher arzt:m:ärzte:doctor fischer:m:fischer:fisherman
tänzerin:f:tänzerinnen:dancer
musiker:m:musiker:musician clown:m:clowns:clown pirat:m:piraten:pirate großmutter:f:großmütter:grandmother
großvater:m:großväter:grandfather freund:m:freunde:friend
tisch:m:tische:table stuhl:m:stühle:chair sofa:n:sofas:sofa sessel:m:sessel:armchair bett:n:betten:bed
schrank:m:schränke:wardrobe
regal:n:regale:shelf lampe:f:lampen:lamp laterne:f:laternen:lamp kerze:f:kerzen:candle vase:f:vasen:vase
tasse:f:tassen:cup
glas:n:gläser:glass flasche:f:flaschen:bottle teller:m:teller:plate schüssel:f:schüsseln:bowl schale:f:schalen:bowl
korb:m:körbe:basket kiste:f:kisten:box schachtel:f:schachteln:box topf:m:töpfe:pot kanne:f:kannen:jug
eimer:m:eimer:bucket
löffel:m:löffel:spoon gabel:f:gabeln:fork messer:n:messer:knife buch:n:bücher:book brille:f:brillen:glasses
uhr:f:uhren:clock
bild:n:bilder:picture spiegel:m:spiegel:mirror teppich:m:teppiche:carpet vorhang:m:vorhänge:curtain
kissen:n:kissen:pillow
decke:f:decken:blanket bank:f:bänke:bench tür:f:türen:door fenster:n:fenster:window dach:n:dächer:roof
wand:f:wände:wall
mauer:f:mauern:wall zaun:m:zäune:fence tor:n:tore:gate leiter:f:leitern:ladder schlüssel:m:schlüssel:key
koffer:m:koffer:suitcase
tasche:f:taschen:bag rucksack:m:rucksäcke:backpack regenschirm:m:regenschirme:umbrella schirm:m:schirme:umbrella
sonnenschirm:m:sonnenschirme:umbrella hut:m:hüte:hat mütze:f:mützen:cap helm:m:helme:helmet krone:f:kronen:crown
schal:m:schals:scarf
kleid:n:kleider:dress hemd:n:hemden:shirt jacke:f:jacken:jacket mantel:m:mäntel:coat hose:f:hosen:trousers
schuh:m:schuhe:shoe
stiefel:m:stiefel:boot handschuh:m:handschuhe:glove rock:m:röcke:skirt pullover:m:pullover:sweater
halsband:n:halsbänder:collar
schleife:f:schleifen:bow kette:f:ketten:necklace ring:m:ringe:ring sonnenbrille:f:sonnenbrillen:sunglasses
puppe:f:puppen:doll ballon:m:ballons:balloon luftballon:m:luftballons:balloon spielzeug:n:spielzeuge:toy
geschenk:n:geschenke:box gitarre:f:gitarren:guitar klavier:n:klaviere:piano geige:f:geigen:violin
trommel:f:trommeln:drum
computer:m:computer:computer laptop:m:laptops:laptop telefon:n:telefone:phone kamera:f:kameras:telescope
schild:n:schilder:sign
auto:n:autos:car wagen:m:wagen:car bus:m:busse:coach lastwagen:m:lastwagen:truck fahrrad:n:fahrräder:bicycle
motorrad:n:motorräder:motorcycle
zug:m:züge:train flugzeug:n:flugzeuge:plane hubschrauber:m:hubschrauber:helicopter schiff:n:schiffe:ship
boot:n:boote:boat
segelboot:n:segelboote:sailboat traktor:m:traktoren:tractor rakete:f:raketen:rocket schlitten:m:schlitten:sled
heißluftballon:m:heißluftballons:airship zelt:n:zelte:tent
haus:n:häuser:house hütte:f:hütten:hut turm:m:türme:tower burg:f:burgen:castle schloss:n:schlösser:castle
kirche:f:kirchen:church
brücke:f:brücken:bridge scheune:f:scheunen:barn windmühle:f:windmühlen:windmill leuchtturm:m:leuchttürme:lighthouse
gebäude:n:gebäude:tower brunnen:m:brunnen:fountain statue:f:statuen:statue denkmal:n:denkmäler:statue
schule:f:schulen:school
baum:m:bäume:tree palme:f:palmen:palm tanne:f:tannen:pine eiche:f:eichen:oak busch:m:büsche:bush blume:f:blumen:flower
rose:f:rosen:rose tulpe:f:tulpen:tulip sonnenblume:f:sonnenblumen:sunflower blatt:n:blätter:leaf pilz:m:pilze:mushroom
kaktus:m:kakteen:cactus stein:m:steine:stone fels:m:felsen:boulder felsen:m:felsen:boulder
baumstamm:m:baumstämme:log ast:m:äste:branch
zweig:m:zweige:branch pflanze:f:pflanzen:plant muschel:f:muscheln:shell schneemann:m:schneemänner:snowman
apfel:m:äpfel:apple birne:f:birnen:pear banane:f:bananen:banana orange:f:orangen:orange zitrone:f:zitronen:lemon
kirsche:f:kirschen:cherry erdbeere:f:erdbeeren:strawberry traube:f:trauben:berry tomate:f:tomaten:tomato
kürbis:m:kürbisse:pumpkin
kuchen:m:kuchen:cake torte:f:torten:cake brot:n:brote:loaf ei:n:eier:egg käse:m:-:cheese fleisch:n:-:meat
keks:m:kekse:cookie
kaffee:m:-:coffee tee:m:-:tea wein:m:-:wine milch:f:-:milk wasser:n:-:water obst:n:-:fruit suppe:f:-:soup
melone:f:melonen:melon
strand:m:strände:beach meer:n:meere:sea see:m:seen:lake ozean:m:ozeane:ocean fluss:m:flüsse:river
teich:m:teiche:pond küste:f:küsten:coast
ufer:n:ufer:shore hafen:m:häfen:harbor insel:f:inseln:island sand:m:-:sand wüste:f:wüsten:desert gras:n:gräser:grass
rasen:m:rasen:lawn wiese:f:wiesen:meadow feld:n:felder:field weide:f:weiden:pasture garten:m:gärten:garden
park:m:parks:park
spielplatz:m:spielplätze:playground wald:m:wälder:forest dschungel:m:dschungel:jungle tal:n:täler:valley
straße:f:straßen:street
weg:m:wege:path gehweg:m:gehwege:sidewalk platz:m:plätze:square marktplatz:m:marktplätze:market markt:m:märkte:market
stadt:f:städte:city dorf:n:dörfer:town zimmer:n:zimmer:room raum:m:räume:room küche:f:küchen:kitchen
wohnzimmer:n:wohnzimmer:room
schlafzimmer:n:schlafzimmer:bedroom badezimmer:n:badezimmer:bathroom bad:n:bäder:bathroom büro:n:büros:office
flur:m:flure:hallway
bibliothek:f:bibliotheken:library restaurant:n:restaurants:restaurant café:n:cafés:café bahnhof:m:bahnhöfe:station
bauernhof:m:bauernhöfe:farm hof:m:höfe:courtyard zoo:m:zoos:zoo himmel:m:himmel:sky weltall:n:-:space
boden:m:böden:floor
fußboden:m:fußböden:floor hintergrund:m:hintergründe:background schnee:m:-:snow eis:n:-:ice
landschaft:f:landschaften:landscape
höhle:f:höhlen:cave berg:m:berge:mountain hügel:m:hügel:hill gebirge:n:-:mountain balkon:m:balkone:balcony
terrasse:f:terrassen:terrace
bühne:f:bühnen:stage pool:m:pools:pool fensterbank:f:fensterbänke:windowsill schreibtisch:m:schreibtische:desk
theke:f:theken:counter
treppe:f:treppen:stairs dünen:p:dünen:dune wolke:f:wolken:cloud mond:m:monde:moon sonne:f:sonnen:sun
regenbogen:m:regenbögen:arch
regen:m:-:rain nebel:m:-:fog sturm:m:stürme:storm nacht:f:nächte:night abend:m:abende:evening morgen:m:-:morning
tag:m:tage:day
sonnenuntergang:m:-:sunset sonnenaufgang:m:-:sunrise dämmerung:f:-:dusk winter:m:-:winter sommer:m:-:summer
herbst:m:-:autumn
frühling:m:-:spring mondlicht:n:-:moonlight sonnenlicht:n:-:sunlight
haar:n:haare:hair auge:n:augen:eyes flügel:m:flügel:wings schwanz:m:schwänze:tail bart:m:bärte:beard ohr:n:ohren:ears
hand:f:hände:hand kopf:m:köpfe:head schornstein:m:schornsteine:chimney fell:n:-:fur rad:n:räder:wheel
streifen:m:streifen:stripes
punkt:m:punkte:dots segel:n:segel:sail
licht:n:lichter:light stil:m:stile:style qualität:f:-:quality details:p:details:detail beleuchtung:f:-:lighting
"""
GENDERS: dict[str, str] = {}
SINGULARS: dict[str, str] = {}
MEANINGS: dict[str, str] = {}
for _entry in _NOUNS.split():
    _one, _gender, _several, _meaning = _entry.split(":")
    GENDERS[_one], MEANINGS[_one] = _gender, _meaning
    if _several != "-":
        SINGULARS.setdefault(_several, _one)
        if not _several.endswith(("n", "s")):
            SINGULARS.setdefault(_several + "n", _one)  # dative: den Bällen

NUMBERS = {"zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6, "sieben": 7, "acht": 8, "neun": 9, "zehn": 10, "elf": 11,
           "zwölf": 12, "beide": 2, "beiden": 2, "dutzend": 12}  # fmt: skip
VAGUE = {"einige": 3, "einigen": 3, "mehrere": 3, "mehreren": 3, "viele": 5, "vielen": 5, "verschiedene": 3}
INDEFINITE = listed("ein eine einen einem einer eines kein keine")
DEFINITE = listed("der die das den dem des dieser diese dieses diesen diesem")
POSSESSIVE = listed("""
    sein seine seinen seinem seiner ihr ihre ihren ihrem ihrer mein meine meinen meinem meiner unser unsere unseren
    unserem
""")
COLOURS = listed("""
    rot blau grün gelb orange lila violett rosa pink braun schwarz weiß weiss grau beige türkis golden silbern bunt
    hellblau dunkelblau
    hellgrün dunkelgrün dunkelrot cremefarben schwarzweiß
""")
SIZE_WORDS = {"groß": "large", "riesig": "huge", "klein": "small", "winzig": "tiny"}
ADJECTIVES = (
    COLOURS
    | frozenset(SIZE_WORDS)
    | listed("""
    alt jung neu schön lang kurz hoch breit schmal dick dünn rund eckig hölzern leer voll nass trocken glänzend müde
    glücklich
    traurig fröhlich ruhig still dunkel hell warm kalt offen geschlossen
""")
)
PREPOSITIONS = {
    "auf": "on", "in": "in", "im": "in", "ins": "in", "an": "in", "am": "in", "ans": "in", "vor": "front", "vorm": "front",
    "hinter": "behind", "hinterm": "behind", "über": "above", "überm": "above", "unter": "under", "unterm": "under",
    "unterhalb": "under", "oberhalb": "above", "neben": "beside", "zwischen": "between", "bei": "beside", "beim": "beside",
    "mit": "with", "gegen": "against", "entlang": "along", "durch": "along", "nahe": "beside", "um": "beside", "von": "none",
    "vom": "none", "zu": "none", "zum": "none", "zur": "none", "aus": "none", "für": "none", "ohne": "without", "nach": "none",
    "wie": "none", "innerhalb": "in",
}  # fmt: skip
WITH_ARTICLE = listed("im am beim vom zum zur ins ans vorm hinterm überm unterm")
FIXED = {
    "mood": sequences({"mood": "bei sonnenuntergang; bei sonnenaufgang; bei nacht; in der nacht; am abend; am morgen; im regen; "
                               "im winter; im sommer; im herbst; im frühling; bei tag; am tag; im nebel; bei vollmond; "
                               "in der dämmerung; bei mondlicht; im mondlicht; im sonnenlicht; bei regen; am mittag; "
                               "an einem sonnigen tag; an einem regnerischen tag; beim sonnenuntergang; bei dämmerung; nachts"}),
    "spot": sequences({
        "left": "links; auf der linken seite; am linken rand; links im bild",
        "right": "rechts; auf der rechten seite; am rechten rand; rechts im bild",
        "middle": "in der mitte; mittig; in der bildmitte; in der mitte des bildes", "top": "oben; am oberen rand",
        "bottom": "unten; am unteren rand", "top left": "oben links; links oben; in der oberen linken ecke",
        "top right": "oben rechts; rechts oben; in der oberen rechten ecke",
        "bottom left": "unten links; links unten; in der unteren linken ecke",
        "bottom right": "unten rechts; rechts unten; in der unteren rechten ecke",
        "background": "im hintergrund; in der ferne; am horizont; hinten", "foreground": "im vordergrund; vorne",
    }),
    "prep": sequences({
        "beside": "links von; rechts von; links neben; rechts neben; in der nähe von; links vom; rechts vom; gegenüber von; "
                  "direkt neben",
        "in": "in der mitte von; in der mitte der; in der mitte des; mitten auf; mitten in; mitten im", "on": "oben auf",
        "front": "direkt vor", "behind": "direkt hinter",
    }),
    "style": sequences({
        "swallow": "im stil von; im stil des; im stil der; inspiriert von; gemalt von",
        "style": "hochdetailliert; sehr detailliert; fotorealistisch; in schwarz-weiß; hohe qualität; realistisch",
    }),
    "there": sequences({"there": "es gibt; es ist; es sind; da ist; da sind; es steht; es stehen; es liegt; es liegen"}),
    "verb": sequences({"lead": "zeichne; male; erstelle; erzeuge; generiere; zeige; zeig mir; ich sehe; man sieht; bitte",
                       "own": "gefüllt mit; bedeckt mit; voll mit; voller; dekoriert mit"}),
}  # fmt: skip
KINDS = {"und": "and", "sowie": "and", "oder": "and", "ist": "be", "sind": "be", "war": "be", "waren": "be", "befindet": "be",
         "befinden": "be", "hat": "have", "haben": "have", "welche": "which", "welcher": "which", "welches": "which",
         "während": "which", "wo": "which", "es": "it", "ihm": "it", "ihnen": "it", "er": "it", "sie": "it", "sich": "skip",
         "auch": "skip", "davor": "skip", "dahinter": "skip", "sehr": "skip", "noch": "skip", "dabei": "skip"}  # fmt: skip
_STAY = "sitz:sitzend steh:stehend lieg:liegend häng:hängend schweb:schwebend lehn:lehnend wart:wartend park:parkend"
_PLAIN = """
    schlaf:schlafend spiel:spielend lauf:laufend renn:rennend schwimm:schwimmend flieg:fliegend spring:springend
    tanz:tanzend
    jag:jagend schau:schauend geh:gehend wachs:wachsend leucht:leuchtend segel:segelnd fahr:fahrend graz:grasend
    gras:grasend
    lach:lachend klett:kletternd sing:singend brenn:brennend
"""
_OWN = "trag:tragend halt:haltend les:lesend trink:trinkend reit:reitend iss:essend schreib:schreibend hält:haltend trägt:tragend liest:lesend"


def _verbs() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for use, table in (("stay", _STAY), ("plain", _PLAIN), ("own", _OWN)):
        for entry in table.split():
            stem, participle = entry.split(":")
            for ending in ("t", "et", "en", "n", "e", ""):
                found[stem + ending] = (use, participle)
            found[participle] = (use, participle)
    strong = {"schläft": "schlaf", "läuft": "lauf", "fährt": "fahr", "wächst": "wachs", "isst": "iss", "hängen": "häng",
              "essen": "iss", "saß": "sitz", "stand": "steh", "lag": "lieg"}  # fmt: skip
    found.update({form: found[stem] for form, stem in strong.items()})
    return found


VERBS = _verbs()
PICTURES = listed("foto fotografie bild gemälde ölgemälde zeichnung aquarell illustration porträt skizze nahaufnahme")
