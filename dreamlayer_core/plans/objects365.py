"""The categories of Objects365, and one of them for a scene in which nothing stands.

The paper's data pipeline adds a category of this list where a prompt has no foreground. Source: Objects365 v2 (Shao et
al., ICCV 2019), 365 categories in the order of its annotations. Their spelling mistakes are corrected, and names that
say nothing alone ("french", "soccer", "curling") are spelled out, since they become prompts.
"""

from __future__ import annotations

from ..errors import InputError
from .plan import LONGEST_PROMPT, LayerPlan, PlannedLayer

__all__ = ["CATEGORIES", "propose", "proposal_for", "proposed_prompt"]

CATEGORIES: tuple[str, ...] = tuple(
    line.strip()
    for line in (
        "person, sneakers, chair, other shoes, hat, car, lamp, glasses, bottle, desk, cup, street lights, "
        "cabinet/shelf, handbag/satchel, bracelet, plate, picture/frame, helmet, book, gloves, storage box, boat, "
        "leather shoes, flower, bench, potted plant, bowl/basin, flag, pillow, boots, vase, microphone, necklace, "
        "ring, suv, wine glass, belt, monitor/tv, backpack, umbrella, traffic light, speaker, watch, tie, "
        "trash can, slippers, bicycle, stool, barrel/bucket, van, couch, sandals, basket, drum, pen/pencil, bus, "
        "wild bird, high heels, motorcycle, guitar, carpet, cell phone, bread, camera, canned food, truck, "
        "traffic cone, cymbal, lifesaver, towel, stuffed toy, candle, sailboat, laptop, awning, bed, faucet, tent, "
        "horse, mirror, power outlet, sink, apple, air conditioner, knife, hockey stick, paddle, pickup truck, "
        "fork, traffic sign, balloon, tripod, dog, spoon, clock, pot, cow, cake, dining table, sheep, hanger, "
        "blackboard/whiteboard, napkin, other fish, orange/tangerine, toiletry, keyboard, tomato, lantern, "
        "machinery vehicle, fan, green vegetables, banana, baseball glove, airplane, mouse, train, pumpkin, soccer ball, "
        "skis, luggage, nightstand, teapot, telephone, trolley, headphone, sports car, stop sign, dessert, scooter, "
        "stroller, crane, remote, refrigerator, oven, lemon, duck, baseball bat, surveillance camera, cat, jug, "
        "broccoli, piano, pizza, elephant, skateboard, surfboard, gun, skating and skiing shoes, gas stove, donut, "
        "bow tie, carrot, toilet, kite, strawberry, other balls, shovel, pepper, computer case, toilet paper, "
        "cleaning products, chopsticks, microwave, pigeon, baseball, cutting board/chopping board, coffee table, "
        "side table, scissors, marker, pie, ladder, snowboard, cookies, radiator, fire hydrant, basketball, zebra, "
        "grape, giraffe, potato, sausage, tricycle, violin, egg, fire extinguisher, candy, fire truck, billiards, "
        "converter, bathtub, wheelchair, golf club, briefcase, cucumber, cigar/cigarette, paint brush, pear, "
        "heavy truck, hamburger, extractor, extension cord, tongs, tennis racket, folder, american football, "
        "earphone, mask, kettle, tennis ball, ship, swing, coffee machine, slide, carriage, onion, green beans, "
        "projector, frisbee, washing machine/drying machine, chicken, printer, watermelon, saxophone, tissue, "
        "toothbrush, ice cream, hot air balloon, cello, french fries, scale, trophy, cabbage, hot dog, blender, "
        "peach, rice, wallet/purse, volleyball, deer, goose, tape, tablet, cosmetics, trumpet, pineapple, "
        "golf ball, ambulance, parking meter, mango, key, hurdle, fishing rod, medal, flute, brush, penguin, "
        "megaphone, corn, lettuce, garlic, swan, helicopter, green onion, sandwich, nuts, speed limit sign, "
        "induction cooker, broom, trombone, plum, rickshaw, goldfish, kiwi fruit, router/modem, poker card, "
        "toaster, shrimp, sushi, cheese, notepaper, cherry, pliers, cd, pasta, hammer, cue, avocado, hami melon, "
        "flask, mushroom, screwdriver, soap, recorder, bear, eggplant, board eraser, coconut, tape measure/ruler, "
        "pig, showerhead, globe, chips, steak, crosswalk sign, stapler, camel, formula 1 car, pomegranate, "
        "dishwasher, crab, hoverboard, meatball, rice cooker, tuba, calculator, papaya, antelope, parrot, seal, "
        "butterfly, dumbbell, donkey, lion, urinal, dolphin, electric drill, hair dryer, egg tart, jellyfish, "
        "treadmill, lighter, grapefruit, game board, mop, radish, baozi, target, french horn, spring rolls, monkey, "
        "rabbit, pencil case, yak, red cabbage, binoculars, asparagus, barbell, scallop, noodles, comb, dumpling, "
        "oyster, table tennis paddle, cosmetics brush/eyeliner pencil, chainsaw, eraser, lobster, durian, okra, "
        "lipstick, cosmetics mirror, curling stone, table tennis ball"
    ).split(",")
)
"""All 365, in lower case. Where the list joins two names by a slash, both are meant."""

# Words of a scene, and what may well stand there, the likeliest first. The first scene that has a word in common counts.
_SCENES: tuple[tuple[str, str], ...] = (
    (
        "beach sand shore coast seaside strand plage küste 沙滩 海滩 海边 砂浜 ビーチ",
        "umbrella, surfboard, crab, sailboat, dog",
    ),
    ("underwater reef seabed aquarium unterwasser 海底 水族", "goldfish, jellyfish, dolphin, seal"),
    (
        "sea ocean lake river bay harbour harbor water waves pond meer fluss lac mer rivière 湖 海 河 川",
        "boat, sailboat, swan, duck, ship",
    ),
    ("snow snowy ski ice glacier winter arctic schnee neige 雪 冰", "penguin, snowboard, rabbit, deer"),
    ("sky clouds himmel ciel 天空 青空", "hot air balloon, kite, airplane, wild bird"),
    ("desert dunes savanna savannah steppe wüste désert 沙漠 砂漠", "camel, giraffe, zebra, lion, elephant"),
    ("forest woods jungle wood clearing wald forêt 森林 森", "deer, bear, rabbit, tent, monkey"),
    ("farm barn stable bauernhof ferme 农场 農場", "cow, sheep, chicken, pig, horse"),
    (
        "meadow grass field pasture lawn hill hills valley mountain mountains wiese feld berg gras pré prairie "
        "montagne champ 草地 草原 山 田野",
        "horse, sheep, cow, rabbit, dog",
    ),
    ("garden park yard backyard garten jardin parc 花园 公园 庭 公園", "bench, flower, dog, potted plant, swing"),
    ("stage concert theatre theater club bühne scène 舞台 ステージ", "microphone, guitar, piano, drum, speaker"),
    (
        "stadium court pitch gym playground stadion stade 体育场 スタジアム",
        "soccer ball, basketball, dumbbell, slide, bench",
    ),
    ("airport runway flughafen aéroport 机场 空港", "airplane, luggage, helicopter"),
    ("station platform railway tracks bahnhof gare 车站 駅", "train, luggage, bench"),
    (
        "road street highway city town avenue square plaza parking garage strasse straße stadt rue route ville 街 "
        "城市 公路 道路 都市",
        "car, bicycle, bus, traffic light, motorcycle",
    ),
    ("kitchen counter küche cuisine 厨房 台所 キッチン", "kettle, cup, apple, toaster"),
    ("table desk tabletop shelf tisch regal 桌 テーブル", "cup, vase, book, apple, laptop"),
    ("bathroom badezimmer 浴室 风呂 風呂", "bathtub, towel, sink, toothbrush"),
    ("bedroom schlafzimmer chambre 卧室 寝室", "bed, lamp, nightstand, pillow"),
    ("office classroom school studio büro bureau 办公室 教室 オフィス", "desk, laptop, book, chair"),
    (
        "room wall floor living house interior hall zimmer wand boden raum salon mur sol 房间 墙 地板 客厅 部屋 壁 床",
        "chair, potted plant, couch, lamp, cat",
    ),
)
_ANYWHERE = "dog, chair, potted plant, cup, book"


def proposal_for(background: str) -> str:
    """A category of the list that fits the scene and is not named in it; always the same one for the same words."""
    words = _words(background)
    kinds = next((kinds for names, kinds in _SCENES if _named(names, words, background)), _ANYWHERE).split(", ")
    return next((kind for kind in kinds if kind not in background.lower()), kinds[0])


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def _named(names: str, words: set[str], text: str) -> bool:
    """Words of scripts without spaces are found anywhere in the text."""
    return any(name in words if name.isascii() or name[0] < "\u2e80" else name in text for name in names.split())


def proposed_prompt(background: str) -> str:
    """The proposed category as a prompt."""
    name = proposal_for(background)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def propose(background: str) -> LayerPlan:
    """A plan of that scene with one proposed thing in it, which a note tells of. Raises InputError for an endless scene."""
    name, prompt = proposal_for(background), proposed_prompt(background)
    whole = f"{prompt}, {background}"
    if len(whole) > LONGEST_PROMPT:
        raise InputError(
            f"got a scene of {len(background)} characters, too long for a thing besides; shorten it to {LONGEST_PROMPT - 100}"
        )
    layer = PlannedLayer(name=name, prompt=prompt)
    note = f"the sentence names nothing that stands in the scene: {name} is proposed, a category of Objects365"
    return LayerPlan(background=background, foregrounds=(layer,), whole=whole, notes=(note,))
