"""French nouns with gender and meaning, and function words. Our own lists."""

from __future__ import annotations

from ..tables import Fixed, listed, sequences

_NOUNS = """
balle:f:ball ballon:m:ball boule:f:ball cube:m:cube cône:m:cone pyramide:f:toy cylindre:m:toy sphère:f:ball
cercle:m:ball carré:m:toy
triangle:m:toy étoile:f:star cœur:m:toy
chat:m:cat chatte:f:cat chaton:m:kitten chien:m:dog chienne:f:dog chiot:m:puppy cheval:m:horse poney:m:pony
vache:f:cow mouton:m:sheep
chèvre:f:goat cochon:m:pig âne:m:donkey poule:f:chicken coq:m:rooster poussin:m:chick canard:m:duck oie:f:goose
oiseau:m:bird
hibou:m:owl chouette:f:owl aigle:m:eagle mouette:f:seagull perroquet:m:parrot lapin:m:rabbit lièvre:m:hare
souris:f:mouse
renard:m:fox loup:m:wolf ours:m:bear ourson:m:cub cerf:m:deer biche:f:deer lion:m:lion tigre:m:tiger
éléphant:m:elephant
girafe:f:giraffe zèbre:m:zebra singe:m:monkey pingouin:m:penguin manchot:m:penguin poisson:m:fish baleine:f:whale
dauphin:m:dolphin
grenouille:f:frog serpent:m:snake tortue:f:turtle papillon:m:butterfly abeille:f:bee dragon:m:dragon licorne:f:unicorn
hérisson:m:hedgehog écureuil:m:squirrel cygne:m:swan cigogne:f:stork crocodile:m:crocodile coccinelle:f:ladybug
escargot:m:snail
homme:m:man femme:f:woman enfant:m:child garçon:m:boy fille:f:girl fillette:f:girl bébé:m:baby personne:f:person
gens:m:people
roi:m:king reine:f:queen chevalier:m:knight prince:m:prince princesse:f:princess magicien:m:wizard sorcière:f:witch
robot:m:robot
astronaute:m:astronaut soldat:m:soldier fermier:m:farmer cuisinier:m:chef pêcheur:m:fisherman danseuse:f:dancer
danseur:m:dancer
musicien:m:musician clown:m:clown pirate:m:pirate peintre:m:painter vieillard:m:man dame:f:lady monsieur:m:man
ami:m:friend
table:f:table chaise:f:chair canapé:m:sofa fauteuil:m:armchair lit:m:bed armoire:f:wardrobe étagère:f:shelf
lampe:f:lamp
lampadaire:m:lamppost lanterne:f:lamp bougie:f:candle vase:m:vase tasse:f:cup verre:m:glass bouteille:f:bottle
assiette:f:plate
bol:m:bowl panier:m:basket corbeille:f:basket boîte:f:box caisse:f:box pot:m:pot cruche:f:jug seau:m:bucket
cuillère:f:spoon
fourchette:f:fork couteau:m:knife livre:m:book lunettes:f:glasses horloge:f:clock montre:f:watch tableau:m:painting
miroir:m:mirror
tapis:m:carpet rideau:m:curtain coussin:m:pillow oreiller:m:pillow couverture:f:blanket banc:m:bench porte:f:door
fenêtre:f:window
toit:m:roof mur:m:wall clôture:f:fence barrière:f:fence portail:m:gate échelle:f:ladder clé:f:key valise:f:suitcase
sac:m:bag
parapluie:m:umbrella parasol:m:umbrella chapeau:m:hat casquette:f:cap bonnet:m:cap casque:m:helmet couronne:f:crown
écharpe:f:scarf
robe:f:dress chemise:f:shirt veste:f:jacket manteau:m:coat pantalon:m:trousers chaussure:f:shoe botte:f:boot
gant:m:glove jupe:f:skirt
pull:m:sweater collier:m:collar nœud:m:bow bague:f:ring cape:f:cape uniforme:m:uniform
poupée:f:doll jouet:m:toy cadeau:m:box guitare:f:guitar piano:m:piano violon:m:violin tambour:m:drum
ordinateur:m:computer
téléphone:m:phone panneau:m:sign peluche:f:doll cerf-volant:m:kite montgolfière:f:airship
voiture:f:car bus:m:coach camion:m:truck vélo:m:bicycle bicyclette:f:bicycle moto:f:motorcycle train:m:train
avion:m:plane
hélicoptère:m:helicopter bateau:m:boat voilier:m:sailboat navire:m:ship barque:f:boat tracteur:m:tractor
fusée:f:rocket tente:f:tent
maison:f:house cabane:f:hut tour:f:tower château:m:castle église:f:church pont:m:bridge grange:f:barn
moulin:m:windmill phare:m:lighthouse
bâtiment:m:tower immeuble:m:skyscraper fontaine:f:fountain statue:f:statue école:f:school
arbre:m:tree palmier:m:palm sapin:m:pine chêne:m:oak buisson:m:bush fleur:f:flower rose:f:rose tulipe:f:tulip
tournesol:m:sunflower
feuille:f:leaf champignon:m:mushroom cactus:m:cactus pierre:f:stone rocher:m:boulder branche:f:branch plante:f:plant
coquillage:m:shell
pomme:f:apple poire:f:pear banane:f:banana orange:f:orange citron:m:lemon cerise:f:cherry fraise:f:strawberry
raisin:m:fruit
tomate:f:tomato citrouille:f:pumpkin gâteau:m:cake pain:m:loaf œuf:m:egg fromage:m:cheese café:m:coffee thé:m:tea
vin:m:wine lait:m:milk
eau:f:water fruit:m:fruit soupe:f:soup croissant:m:cookie bonhomme:m:snowman
plage:f:beach mer:f:sea lac:m:lake océan:m:ocean rivière:f:river fleuve:m:river étang:m:pond côte:f:coast
rive:f:shore port:m:harbor
île:f:island sable:m:sand désert:m:desert herbe:f:grass pelouse:f:lawn prairie:f:meadow pré:m:meadow champ:m:field
jardin:m:garden
parc:m:park forêt:f:forest bois:m:forest jungle:f:jungle vallée:f:valley rue:f:street route:f:road chemin:m:path
trottoir:m:sidewalk
place:f:square marché:m:market ville:f:city village:m:village chambre:f:bedroom pièce:f:room salon:m:room
cuisine:f:kitchen
salle:f:room bureau:m:desk couloir:m:hallway bibliothèque:f:library restaurant:m:restaurant gare:f:station
ferme:f:farm cour:f:courtyard
zoo:m:zoo ciel:m:sky espace:m:space sol:m:floor plancher:m:floor parquet:m:floor fond:m:background neige:f:snow
glace:f:ice paysage:m:landscape
grotte:f:cave montagne:f:mountain colline:f:hill dune:f:dune balcon:m:balcony terrasse:f:terrace scène:f:stage
piscine:f:pool
comptoir:m:counter escalier:m:stairs nuage:m:cloud lune:f:moon soleil:m:sun arc-en-ciel:m:arch campagne:f:countryside
pluie:f:rain brouillard:m:fog brume:f:mist orage:m:storm tempête:f:storm nuit:f:night soir:m:evening matin:m:morning
jour:m:day
journée:f:day coucher:m:sunset lever:m:sunrise crépuscule:m:dusk aube:f:dawn hiver:m:winter été:m:summer
automne:m:autumn printemps:m:spring
cheveux:m:hair cheveu:m:hair œil:m:eyes yeux:m:eyes aile:f:wings queue:f:tail barbe:f:beard oreille:f:ears
main:f:hand tête:f:head
cheminée:f:chimney roue:f:wheel rayure:f:stripes pois:m:dots voile:f:sail volet:m:shutters pétale:m:petal
lumière:f:light style:m:style qualité:f:quality détail:m:detail éclairage:m:lighting
"""
GENDERS: dict[str, str] = {}
MEANINGS: dict[str, str] = {}
for _entry in _NOUNS.split():
    _noun, _gender, _meaning = _entry.split(":")
    GENDERS.setdefault(_noun, _gender)
    MEANINGS.setdefault(_noun, _meaning)

NUMBERS = {"deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "six": 6, "sept": 7, "huit": 8, "neuf": 9, "dix": 10, "onze": 11,
           "douze": 12}  # fmt: skip
COLLECTIVES = {"paire": 2, "couple": 2, "douzaine": 12, "dizaine": 10}
VAGUE = {"plusieurs": 3, "quelques": 3, "nombreux": 5, "nombreuses": 5}
INDEFINITE = listed("un une des")
DEFINITE = listed("le la l' les ce cet cette ces")
POSSESSIVE = listed("son sa ses leur leurs mon ma mes notre nos votre vos")
BEFORE = listed("""
    petit petite petits petites grand grande grands grandes gros grosse grosses vieux vieil vieille vieilles jeune
    jeunes beau bel
    belle beaux belles joli jolie jolis jolies nouveau nouvel nouvelle nouveaux nouvelles bon bonne long longue
    longs longues haut haute
    immense immenses minuscule minuscules énorme énormes magnifique magnifiques même autre autres premier première
""")
SIZE_WORDS = {"petit": "small", "petite": "small", "minuscule": "tiny", "grand": "large", "grande": "large", "gros": "large",
              "grosse": "large", "énorme": "huge", "immense": "huge"}  # fmt: skip
COLOURS = listed("""
    rouge rouges bleu bleue bleus bleues vert verte verts vertes jaune jaunes orange violet violette violets
    violettes rose roses
    marron brun brune bruns brunes noir noire noirs noires blanc blanche blancs blanches gris grise grises beige
    beiges doré dorée
    dorés dorées argenté argentée turquoise roux rousse rousses blond blonde blonds blondes clair claire foncé
    foncée multicolore
    multicolores
""")
PREPOSITIONS = {
    "sur": "on", "dans": "in", "en": "in", "à": "in", "au": "in", "aux": "in", "devant": "front", "derrière": "behind",
    "sous": "under", "entre": "between", "contre": "against", "avec": "with", "parmi": "in", "chez": "in", "vers": "beside",
    "par": "none", "pour": "none", "sans": "without", "de": "none", "du": "none", "d'": "none", "comme": "none", "portant": "with",
}  # fmt: skip


def _with_de(table: dict[str, str]) -> Fixed:
    """ "à côté" -> à côté de, du, des, d', de l', de la."""
    spread = {
        value: "; ".join(f"{phrase} {de}" for phrase in phrases.split(";") for de in ("de", "du", "des", "d'"))
        for value, phrases in table.items()
    }
    return sequences(spread)


FIXED: dict[str, Fixed] = {
    "prep": _with_de({
        "beside": "à côté; près; à gauche; à droite; à la gauche; à la droite; autour; en face; le long; au bord; non loin; aux côtés",
        "above": "au-dessus; par-dessus", "under": "au-dessous; en-dessous; en dessous; au pied", "on": "au sommet; en haut",
        "in": "au milieu; au centre; à l' intérieur; au cœur; au fond", "front": "en avant", "behind": "à l' arrière; en arrière",
    }),
    "spot": sequences({
        "left": "à gauche; sur la gauche; du côté gauche", "right": "à droite; sur la droite; du côté droit",
        "middle": "au milieu; au centre; au milieu de l' image; au centre de l' image", "top": "en haut", "bottom": "en bas",
        "top left": "en haut à gauche; dans le coin supérieur gauche", "top right": "en haut à droite; dans le coin supérieur droit",
        "bottom left": "en bas à gauche; dans le coin inférieur gauche",
        "bottom right": "en bas à droite; dans le coin inférieur droit",
        "background": "à l' arrière-plan; en arrière-plan; au loin; à l' horizon; au fond; dans le fond",
        "foreground": "au premier plan; à l' avant-plan",
    }),
    "mood": sequences({"mood": "au coucher du soleil; au lever du soleil; la nuit; de nuit; à l' aube; au crépuscule; sous la pluie; "
                               "en hiver; en été; en automne; au printemps; le soir; le matin; à midi; à minuit; au clair de lune; "
                               "dans le brouillard; dans la brume; par une journée ensoleillée; pendant la nuit; la nuit tombée; "
                               "sous la neige; en plein jour; dans la nuit; au soleil couchant; à la tombée de la nuit"}),
    "style": sequences({
        "swallow": "dans le style de; dans le style d'; dans le style du; inspiré de; inspirée de; peint par",
        "style": "très détaillé; haute qualité; photoréaliste; en noir et blanc; réaliste; haute résolution; ultra détaillé",
    }),
    "there": sequences({"there": "il y a; voici; on voit; on peut voir; il se trouve"}),
    "verb": sequences({"lead": "dessine; dessinez; peins; crée; créez; génère; montre; montre-moi; imagine; je vois; s'il vous plaît",
                       "own": "rempli de; remplie de; remplis de; couvert de; couverte de; recouvert de; décoré de; plein de; "
                              "pleine de; rempli d'; remplie d'; vêtu d'; vêtue d'; habillé en; recouverte de; couvert d'; "
                              "en train de lire; vêtue de; vêtu de"}),
}  # fmt: skip
KINDS = {"et": "and", "ou": "and", "ainsi": "skip", "est": "be", "sont": "be", "était": "be", "se": "skip", "s'": "skip", "a": "have",
         "ont": "have", "qui": "which", "que": "which", "qu'": "which", "dont": "which", "où": "which", "tandis": "skip",
         "pendant": "skip", "il": "it", "elle": "it", "lui": "it", "ils": "it", "elles": "it", "eux": "it", "très": "skip",
         "trouve": "be", "trouvent": "be", "ne": "skip", "pas": "skip", "aussi": "skip"}  # fmt: skip
_VERBS = """
stay assis:assis assise:assise assises:assises debout:debout allongé:allongé allongée:allongée couché:couché
couchée:couchée
posé:posé posée:posée posés:posés posées:posées garé:garé garée:garée perché:perché perchée:perchée suspendu:suspendu
suspendue:suspendue placé:placé placée:placée appuyé:appuyé appuyée:appuyée situé:situé située:située flotte:flottant
flottant:flottant flottent:flottant repose:posé
plain dort:endormi dorment:endormi dormant:endormi endormi:endormi endormie:endormie joue:jouant jouent:jouant
jouant:jouant
court:courant courent:courant courant:courant nage:nageant nagent:nageant nageant:nageant vole:volant volent:volant
volant:volant
saute:sautant sautant:sautant danse:dansant dansent:dansant dansant:dansant marche:marchant marchent:marchant
marchant:marchant
regarde:regardant regardent:regardant regardant:regardant poursuit:poursuivant poursuivant:poursuivant pousse:poussant
brille:brillant brillent:brillant navigue:naviguant naviguant:naviguant chante:chantant chantant:chantant
sourit:souriant
broute:broutant broutent:broutant broutant:broutant pend:pendant entouré:entouré entourée:entourée promène:promenant
own porte:portant portent:portant portant:portant tient:tenant tiennent:tenant tenant:tenant lit:lisant
lisent:lisant lisant:lisant
boit:buvant buvant:buvant mange:mangeant mangent:mangeant mangeant:mangeant chevauche:chevauchant
chevauchant:chevauchant
monte:montant montant:montant écrit:écrivant écrivant:écrivant
"""


def _verbs() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    use = ""
    for entry in _VERBS.split():
        form, _, participle = entry.partition(":")
        if participle:
            found[form] = (use, participle)
        else:
            use = form
    return found


VERBS = _verbs()
PICTURES = listed(
    "photo photographie image peinture dessin aquarelle illustration portrait croquis tableau gros-plan huile"
)
