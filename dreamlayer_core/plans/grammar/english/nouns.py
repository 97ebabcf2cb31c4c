"""English nouns by what a picture makes of them. Our own lists: everyday things, and the words that image prompts use."""

from __future__ import annotations

from ..tables import listed, mapped
from . import beings, places, things

PLACES = listed("""
    pizzeria cockpit doorstep doorway classroom courtroom ballpark racetrack circus-ring bus-stop
    waterfront
    rome paris london tokyo venice berlin vienna prague madrid barcelona lisbon amsterdam york chicago kyoto beijing
    shanghai
    moscow istanbul cairo athens florence italy france japan china india africa egypt greece spain germany england
    america
    iceland norway switzerland hawaii antarctica arctic manhattan
    beach sea ocean lake pond river stream shore seashore coast coastline bay harbor harbour lagoon waterfall sand
    desert dune
    island grass lawn meadow field pasture prairie savanna savannah garden park playground forest woods wood jungle
    rainforest
    woodland grove orchard vineyard swamp marsh valley canyon cliff glacier countryside landscape farm farmyard
    backyard yard
    courtyard patio street road highway path trail alley alleyway sidewalk pavement avenue square plaza marketplace
    market city
    town village suburb cityscape skyline downtown room kitchen bedroom bathroom living-room dining-room hallway
    corridor hall
    office classroom studio workshop attic basement cellar cafe café
    court stage airport
    platform runway laboratory lab stable barnyard zoo aquarium circus fairground fair sky heavens
    space universe galaxy cosmos moonscape floor ground background backdrop snow ice water seabed underwater reef
    wilderness
    tundra steppe plain plains field battlefield graveyard cemetery ruins campsite campground parking-lot lot
    driveway rooftop terrace balcony porch pool swimming-pool riverbank lakeside seaside lakeshore roadside dock
    pier quay
    nursery lobby lounge ballroom throne-room dungeon mud soil dirt gravel asphalt cobblestones surface
    interior indoors outdoors nightsky horizon heath moor fjord oasis volcano crater sidewalk crossroads
    intersection crosswalk
    schoolyard boardwalk riverside hillside mountainside savannas canal wheatfield cornfield
""") | places.PLACES
BUILDINGS = listed("""
    church cathedral temple shop store mall supermarket gym stadium arena theater theatre museum gallery hospital
    station factory
    warehouse barn house castle school restaurant bar pub bakery library greenhouse cave cavern tunnel cabin hut
    palace tent igloo
    tower lighthouse mansion cottage mosque synagogue pyramid hotel shed garage chapel monastery windmill skyscraper
    bus train subway airplane plane ship submarine elevator
""") | places.BUILDINGS | places.HOUSES - PLACES  # places for what is inside them, things for all else
GLOBES = listed("moon mars planet venus asteroid")  # places for what is on them
COMPOUND_PLACES = frozenset({
    "circus ring", "boxing ring", "bus stop", "gas station", "ski slope", "ice rink", "hockey rink", "book shop", "dance floor",
    "control room", "tennis court", "train tracks", "football pitch", "golf course", "race track", "ice floe", "mountain top",
    "river bank", "market stall", "northern lights", "southern lights", "power plant", "reading nook", "lily pad pond", "river bed", "construction site", "camp site", "mountain pass", "city roof", "airport gate", "departure gate", "boarding gate",
})  # fmt: skip
COMPOUND_THINGS = frozenset({"kitchen island", "bouncy castle", "sand castle", "gingerbread house", "dog house", "bird house"})
HOUSES = places.HOUSES  # buildings as well: "in front of a café" is outside of it
PICTURES = listed("poster print painting picture photograph photo drawing sketch portrait")  # on the walls, when there are several
SCENERY = listed("""
    wall hill mountain hilltop mountaintop bridge roof stairs staircase steps peak cloud dune track rail railway
    cliff slope
    curtain windowsill sill ledge rock rocks
""") | places.SCENERY  # places where nothing else is one
MOODS = listed("""
    sunset sunrise dawn dusk night nighttime midnight noon midday morning afternoon evening twilight day daytime
    rain drizzle
    fog mist haze storm thunderstorm snowstorm blizzard sandstorm moonlight sunlight sunshine daylight starlight
    candlelight
    lamplight winter summer autumn fall spring weather darkness dark christmas halloween shade rainstorm snowfall
    downpour
    wind breeze season hour
""")
STYLES = listed("""
    photo photograph photography picture image painting drawing illustration sketch render rendering watercolor
    watercolour
    artwork art style portrait close-up closeup shot snapshot view scene cartoon comic anime manga still-life
    lighting light
    light bokeh quality detail details resolution masterpiece composition depth focus lens perspective angle palette
    texture
    textures concept wallpaper poster print etching engraving woodcut collage mosaic linocut pastel pastels gouache
    acrylic oil
    ink pencil charcoal crayon realism surrealism impressionism cubism minimalism photorealism aesthetic atmosphere
    mood vibe
    colors colours tones contrast shadows hdr uhd 4k 8k artstation unreal octane blender pixar ghibli disney film
    grain
    polaroid footage cinematography pixel-art lineart clipart icon logo design graphic graphics vector storybook
    fresco
    daguerreotype panorama solo selfie exposure background-blur blur vignette reflections engine rays
""") | things.STYLE_WORDS
ABSTRACT = listed("""
    camera viewer distance other others air front back top bottom middle center centre side left right foreground way
    rest hurry motion action fun love peace joy sadness anger row circle pair row rows
    instruction instructions prompt system message output json html markdown code password request task answer
    response
    sentence text word words number name key api user model ai tool rule rules secret step example lot
    lots bit
    kind type sort time moment series variety instead order everything anything nothing something someone everyone
    place contrast direction opposite amount size shape color colour length end beginning part half past future today
    party picnic wedding ceremony celebration turn sight focus reason reasons care attention speed balance formation conversation
""")
CONCRETE_NAMED = listed("line circle key model code tool system number letter seat side end card tag back")
ANIMATE = listed("""
    man woman boy girl child kid baby toddler person people lady gentleman guy girls couple family crowd human
    teenager
    teen adult elder couple pilot human grandmother grandfather grandma grandpa mother father mom dad son daughter
    brother sister friend
    bride groom king queen prince princess knight wizard witch soldier warrior samurai ninja pirate viking cowboy
    astronaut
    robot android alien monster ghost zombie vampire angel fairy elf dwarf gnome goblin troll giant mermaid dragon
    unicorn
    phoenix griffin teacher student doctor nurse chef cook waiter waitress farmer fisherman fisher painter artist
    musician
    pianist guitarist violinist singer dancer ballerina clown magician actor actress policeman policewoman officer
    firefighter
    fireman pilot sailor captain driver worker builder carpenter mechanic scientist engineer gardener hunter runner
    cyclist
    surfer skier skater swimmer climber hiker tourist traveler traveller player goalkeeper jockey rider monk nun
    priest
    nomad shepherd merchant vendor butcher baker barista hero superhero villain detective spy clerk boss
    juggler acrobat skeleton mummy athlete boxer fighter skateboarder drummer guitarist tailor carpenter sheriff
    postman mailman gardener beekeeper florist miner diver scuba judge lawyer businessman businesswoman gymnast
    cheerleader
    chess-player grandparent twin wizardess sorcerer barber librarian maid butler hunter archer swordsman dj rapper
    snowman scarecrow doll puppet mannequin statue gargoyle teddy figurine
    dog puppy cat kitten kitty horse pony foal donkey mule cow bull calf ox sheep lamb ram goat kid pig piglet boar
    rabbit
    bunny hare hamster mouse rat squirrel chipmunk beaver hedgehog fox wolf bear cub panda koala kangaroo lion
    lioness tiger
    leopard cheetah jaguar panther lynx elephant rhino rhinoceros hippo hippopotamus giraffe zebra deer stag doe
    fawn moose
    elk reindeer antelope gazelle camel llama alpaca monkey ape gorilla chimpanzee orangutan sloth raccoon skunk
    badger otter
    seal walrus whale dolphin shark fish goldfish salmon trout octopus squid jellyfish crab lobster shrimp turtle
    tortoise
    snake lizard gecko iguana crocodile alligator frog toad salamander dinosaur bird parrot owl eagle hawk falcon
    crow raven
    pigeon dove sparrow robin swallow swan goose gosling duck duckling chicken hen rooster chick turkey peacock
    flamingo
    penguin seagull gull pelican stork heron crane ostrich toucan hummingbird woodpecker bat bee wasp butterfly moth
    dragonfly ladybug ladybird beetle ant spider scorpion snail slug worm caterpillar grasshopper cricket poodle
    labrador
    terrier bulldog retriever corgi husky dalmatian beagle dachshund chihuahua shepherd pug tabby samoyed
""") | beings.BEINGS
BODY = listed("""
    eye eyes hair fur mane tail wing wings beak ear ears nose mouth lips teeth tooth tongue face head neck shoulder
    shoulders
    arm arms hand hands finger fingers leg legs foot feet paw paws claw claws horn horns antler antlers tusk tusks
    beard mustache
    moustache braid braids ponytail pigtails freckles skin smile grin expression feather feathers back belly lap
    body knee
    knees whiskers snout muzzle hooves hoof udder plumage fin fins gills bun
    chin cheek cheeks forehead brow brows eyebrow eyebrows eyelashes throat waist hip hips thigh thighs ankle ankles wrist
    wrists elbow elbows thumb toe toes knuckles shin jaw scalp forearm forearms torso
""")
PARTS = listed("""
    awning syrup spot spots stripe stripes dot dots polka-dots pattern patterns scale scales shell handle lid wheel
    wheels roof door doors
    window windows chimney sail sails mast hull petal petals leaves stem thorns trunk branch branches roots bark rim
    frame shade
    label cover spine strap buckle zipper sleeve sleeves collar pocket pockets headlights bumper seat seats saddle
    edge edges corner
    corners bottom tip blade spout shutters columns facade icing frosting sprinkles topping toppings filling crust
    foam cream screen
    keys strings pages spikes ribbon tassels fringe embroidery logo clasp clasps inscription writing lettering crest flame flames
    wick
""") | things.PART_WORDS
CLOTHES = listed("""
    hat cap helmet crown tiara hood scarf shawl veil mask glasses sunglasses goggles monocle earring earrings necklace
    bracelet ring watch tie bowtie bow-tie bow ribbon shirt t-shirt tshirt blouse sweater pullover hoodie jumper
    cardigan
    jacket coat raincoat overcoat vest waistcoat suit tuxedo dress gown robe kimono sari skirt kilt trousers pants
    jeans
    shorts leggings tights socks sock shoe shoes boot boots sneaker sneakers sandals heels slippers glove gloves
    mitten
    mittens belt apron uniform armor armour cape cloak poncho pajamas pyjamas swimsuit bikini costume outfit clothes
    clothing
    backpack bandana headband headscarf turban beanie beret sombrero collar leash bell harness headphones badge
    tattoo tattoos
    makeup lipstick wig satchel eyepatch wreath garland bonnet fedora overalls dungarees
""") | things.GEAR
CONTAINERS = listed("""
    vase bowl cup mug glass plate dish basket pot jar bottle box crate bucket tray pan pitcher jug teapot kettle bag
    sack
    barrel tank aquarium bathtub tub sink drawer chest trunk case suitcase cage nest cart wheelbarrow wagon goblet
    tin can
    platter saucer flowerpot planter teacup tumbler carafe shelf bookshelf bookcase refrigerator fridge cupboard
""")
CONTENTS = listed("""
    flowers roses tulips daisies sunflowers lilies fruit fruits apples oranges bananas grapes berries cherries
    strawberries
    food soup salad rice pasta spaghetti noodles bread coffee tea milk water wine juice beer cocoa chocolate honey
    sugar
    salt milk cookies eggs vegetables books toys coins jewels gold sand ice cream foam steam popcorn nuts candy sweets
    tomatoes lemons peaches pears plums potatoes carrots cereal fries sushi meat cheese pencils brushes tools
    clothes laundry
    plants peonies lavender wildflowers daffodils orchids herbs pebbles seashells marbles
""")
MASS = listed("""
    water snow sand grass fruit food fire smoke bread rice milk coffee tea wine beer juice hay straw gold silver
    wood paper
    furniture luggage clothing jewelry traffic steam lava fog mist moss ivy lavender wheat corn foliage vegetation
    greenery
    ice mud dust honey butter cheese meat sugar salt soil dirt lightning rubble debris seaweed coral graffiti
    popcorn sushi
    pasta spaghetti chocolate cream laundry hair fur skin armor armour
""")
UNIQUE = listed("sun moon sky sea ocean world earth")  # keep "the"
IRREGULAR = mapped("""
    taxis:taxi skis:ski bikinis:bikini men:man women:woman children:child people:person mice:mouse geese:goose feet:foot teeth:tooth oxen:ox lice:louse
    wolves:wolf knives:knife leaves:leaf shelves:shelf loaves:loaf scarves:scarf elves:elf dwarves:dwarf calves:calf
    halves:half wives:wife thieves:thief hooves:hoof cacti:cactus octopi:octopus fungi:fungus dice:die
    bookshelves:bookshelf
    shoes:shoe toes:toe canoes:canoe horseshoes:horseshoe hoes:hoe oboes:oboe tiptoes:tiptoe grandchildren:grandchild
    cookies:cookie movies:movie zombies:zombie pies:pie ties:tie bowties:bowtie genies:genie selfies:selfie
    brownies:brownie
    smoothies:smoothie hoodies:hoodie birdies:birdie magpies:magpie axes:axe headaches:headache moustaches:moustache
""")
SAME_PLURAL = listed(
    "sheep deer fish moose elk aircraft spacecraft bison salmon trout shrimp squid series species goldfish swine reindeer"
)
SINGULAR_S = listed("""
    bus glass grass dress compass octopus cactus lens canvas christmas chess moss gas iris walrus hippopotamus
    rhinoceros
    platypus princess waitress actress mattress fortress lioness goddess cross boss class mess brass bass kiss pass
    walrus
    virus circus lotus hibiscus crocus eucalyptus minibus abacus mess atlas pancreas asparagus citrus papyrus news
    dais
    tennis trellis sports oasis cutlass eyeglass hourglass harness countess duchess hostess headdress sundress campus genius
    pegasus venus campus hummus address business wilderness darkness chaos cosmos
""")
PAIRED = listed("""
    shoes socks boots gloves glasses sunglasses scissors jeans pants trousers shorts headphones earrings binoculars
    skis
    sneakers sandals heels slippers goggles pliers tongs mittens leggings tights pajamas pyjamas overalls dungarees
    eyes
    wings skates chopsticks dice pads stockings clogs loafers moccasins gauntlets earbuds earphones crutches stirrups
    cufflinks stilettos stilts
""")
GROUPS = listed("group pair couple trio set collection bunch quartet dozens cluster handful duo line")
COLLECTIVES = listed("""
    child kid person animal figure friend pet bird fruit toy object shape vehicle sibling brother sister thing item
    people
""")  # what a list may spell out: "two animals, a cat and a dog"
ING_NOUNS = listed("""
    building painting ceiling ring king wing string swing spring sling thing evening morning lightning clothing
    railing awning
    drawing earring duckling icing pudding wedding lighting rendering frosting offspring stocking viking gosling
    sibling sapling
    dumpling carving engraving crossing landing filling topping covering opening spaghetting dressing etching
    lettering
    clearing seedling herring gelding gardening starling darling ping evening
""")
ED_NOUNS = listed("bed shed seed weed reed sled red bobsled feed speed")
SIZES = {  # rough size in a picture, for the limit on layers: 0 an ant, 1 a cup, 2 (default) a ball or dog, 3 a man, 4 a tree, 5 a house
    0: listed(
        "ant bee wasp ladybug ladybird fly mosquito coin button bead pebble seed needle pin berry cherry marble pearl "
        "grain crumb key stamp snail bug beetle ring acorn petal thimble dice die nail screw droplet firefly spark"
    ),
    1: listed(
        "cup mug glass spoon fork knife pencil pen eraser candle book phone apple orange lemon pear peach plum egg mouse "
        "butterfly frog sparrow flower rose tulip daisy mushroom bottle watch shoe glove sock cookie cupcake banana "
        "strawberry tomato carrot leaf feather shell seashell star starfish crab bird chick duckling toy doll cake "
        "teacup saucer match lighter spool bowl plate card letter envelope remote hamster robin hummingbird lizard"
    ),
    3: listed(
        "man woman boy girl child person people knight wizard witch robot astronaut horse cow donkey deer lion tiger bear "
        "bicycle bike motorcycle scooter table desk chair sofa couch bed bench armchair piano wardrobe bookshelf door "
        "pony camel zebra boat canoe kayak statue snowman king queen princess soldier bush sculpture fridge"
    ),
    4: listed(
        "tree car truck van taxi tractor elephant giraffe whale dragon dinosaur bus tent shed cabin hut cottage sailboat "
        "helicopter carriage wagon fountain lamppost gate wall fence billboard palm pine oak hippo rhino crane yacht"
    ),
    5: listed(
        "house castle building tower skyscraper mountain hill church cathedral temple bridge ship airplane plane train "
        "windmill lighthouse barn palace pyramid volcano rocket stadium island forest mansion ferry spaceship "
        "waterfall cliff iceberg city village mountains hills clouds castle airship factory fortress"
    ),
}
