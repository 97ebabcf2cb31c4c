"""Nouns of things, by class: what can be drawn. Our own lists; they make a word a noun and say how large it is."""

from __future__ import annotations

from ..tables import listed

__all__ = ["GEAR", "GERUNDS", "HUGE", "LARGE", "PART_WORDS", "STYLE_WORDS", "THINGS"]

_VEHICLES = listed("""
    car convertible coupe sedan limousine taxi cab truck lorry pickup van minivan jeep suv bus minibus tram trolleybus
    train locomotive tractor bulldozer excavator digger forklift ambulance tank motorbike motorcycle moped scooter
    bicycle bike tricycle unicycle tandem rickshaw carriage chariot stagecoach sleigh sled sledge toboggan snowmobile
    boat ship rowboat canoe kayak gondola sailboat yacht schooner galleon frigate dinghy raft barge ferry liner steamer
    tugboat trawler speedboat catamaran submarine airplane aeroplane plane jet biplane glider helicopter blimp zeppelin
    airship balloon rocket spaceship spacecraft shuttle satellite ufo rover hovercraft drone caravan camper trailer
    wheelchair stroller pram trolley cart wheelbarrow wagon
""")
_FURNITURE = listed("""
    table desk workbench bench chair armchair rocker recliner stool ottoman throne sofa couch settee loveseat bed bunk
    cot crib cradle hammock mattress dresser drawers wardrobe cabinet cupboard sideboard shelf bookshelf bookcase counter
    island lectern podium pulpit altar easel piano harpsichord organ stove oven fridge freezer dishwasher fireplace
    bathtub tub washbasin basin sink mirror screen rug carpet mat doormat cushion pillow blanket quilt duvet bedspread
    tablecloth napkin doily towel chandelier lamp lantern lamppost streetlamp streetlight console blackboard whiteboard chalkboard noticeboard torch candlestick candelabra clock
    grandfather-clock radiator heater fan aquarium terrarium birdcage kennel gate fence billboard signpost sign
    scoreboard mailbox hydrant bollard fountain birdbath sundial well pump gravestone tombstone headstone tomb coffin
    sarcophagus statue obelisk pillar column pedestal plinth flagpole swing slide seesaw trampoline carousel sandbox
    ladder stepladder scaffold tripod parasol umbrella tent awning marquee line powerline
""")
_FOOD = listed("""
    apple apricot avocado banana blackberry blueberry cherry coconut cranberry date fig grape grapefruit kiwi lemon lime
    mango melon watermelon nectarine papaya peach pear persimmon pineapple plum pomegranate raspberry strawberry
    artichoke asparagus aubergine bean beet beetroot broccoli cabbage carrot cauliflower celery corn cucumber eggplant
    garlic ginger leek lettuce mushroom olive onion parsnip pea pepper potato pumpkin radish spinach squash tomato turnip
    zucchini bagel baguette biscuit bread brioche bun cake cheesecake cookie cracker crepe croissant cupcake donut
    doughnut eclair loaf macaron muffin pancake pastry pie pretzel pudding roll scone tart toast waffle burger hamburger
    hotdog sandwich pizza taco burrito kebab omelette steak sausage bacon ham noodle ramen dumpling curry stew chili
    soup cereal porridge oatmeal candy lollipop popsicle sundae gelato jelly jam syrup caramel marshmallow cocktail
    lemonade soda smoothie milkshake whiskey champagne cider espresso latte cappuccino acorn nut walnut almond peanut egg
    cheese
""")
_TOOLS = listed("""
    hammer saw axe hatchet chisel drill wrench spanner screwdriver pliers toolbox anvil bellows tongs shovel spade rake
    hoe pitchfork scythe sickle shears scissors knife cleaver fork spoon ladle spatula whisk corkscrew grater colander
    sieve rolling-pin skillet wok cauldron kettle teapot thermos flask blender toaster mixer scale broom mop bucket
    sponge brush paintbrush palette roller pen pencil quill crayon notebook book newspaper magazine letter envelope map
    scroll parchment globe compass telescope microscope binoculars magnifier hourglass calculator typewriter computer
    laptop tablet phone smartphone telephone camera projector television radio gramophone jukebox speaker microphone
    keyboard printer battery bulb candle match lighter lock key padlock chain rope wire hook nail needle thread yarn
    spool loom sewing-machine wheel cog gear engine motor propeller anchor rudder oar paddle net trap lantern
    flashlight torch fan vase urn pot jar bottle barrel crate box carton parcel package gift present basket hamper
    suitcase trunk chest safe bag tire tyre bell whistle trophy medal coin gem jewel diamond pearl crystal orb skull
    bone potion tarp
""")
_PLANTS = listed("""
    tree oak pine fir spruce birch maple willow palm cypress cedar poplar elm beech redwood sequoia baobab bonsai sapling
    shrub bush hedge fern cactus succulent bamboo reed vine ivy moss clover thistle flower rose tulip daisy lily orchid
    sunflower poppy violet iris daffodil hyacinth peony dahlia carnation marigold chrysanthemum lotus hibiscus magnolia
    wisteria snowdrop crocus bluebell dandelion bouquet wreath log stump branch twig root leaf toadstool haystack
    hay-bale bale
""")
_MUSIC_AND_PLAY = listed("""
    guitar ukulele banjo mandolin lute harp lyre violin viola cello double-bass fiddle flute clarinet oboe bassoon
    saxophone trumpet trombone tuba horn bugle harmonica accordion bagpipes drum snare cymbal tambourine maracas
    xylophone triangle gong synthesizer ball football basketball volleyball baseball rugby-ball bat racket racquet puck
    stick goal hoop net surfboard skateboard snowboard skis ski skates sled kite frisbee boomerang dart dartboard
    crossbow arrow barbell dumbbell kettlebell treadmill punching-bag chessboard chess dice cards domino
    puzzle jigsaw rattle yo-yo doll dollhouse teddy lego blocks marble pinwheel balloon spinning-top
    rocking-horse pacifier pinata sandcastle snowball
""")
_FANTASY = listed("""
    sword dagger spear lance halberd pike mace club flail shield bow quiver cannon catapult trebuchet musket pistol
    revolver rifle wand staff crystal-ball grimoire spellbook broomstick amulet talisman rune portal cauldron chalice
    grail treasure lightsaber laser hologram monolith asteroid comet meteor planet crate
""")
_HOUSEHOLD = listed("""
    album armoire ashcan ashtray bathmat bathrobe bauble beanbag bedpost bedsheet bedside-table bin binder blind
    blotter bobbin breadbox bureau candleholder canister casserole chaise chalk chopstick clipboard cloth
    clothes-horse clothesline clothespin coaster coatrack comforter comic-book cooler cord credenza crochet crock
    cruet curtain-rod daybed decanter diary dictionary diffuser dispenser divan doorbell doorknob dustbin duster
    dustpan eggcup encyclopedia extension-cord fabric faucet folder footrest footstool futon glue grinder hairbrush
    hairdryer hassock hatbox hatstand highlighter hoover humidifier hutch icebox incense inkpot inkwell jewelry-box
    journal keyhole keyring knickknack knitting knocker lampshade ledger lightbulb lockbox lotion lunchbox marker
    mop-bucket mortar music music-box nightlight nightstand paperclip perfume pestle photograph picture-frame
    pillowcase pincushion placemat plug plunger postcard pouf protractor pushpin rack ramekin razor ruler saucepan
    sconce scrapbook sewing-kit shampoo sheet showerhead shutter silk snowglobe soap socket souvenir spork stapler
    statuette switch tap tape teaspoon textbook thermostat thumbtack toastrack toothbrush toothpaste trashcan
    trinket trivet tureen vacuum vanity venetian washcloth wastebasket wickerwork wool wrapping
""")
_OUTDOORS = listed("""
    acacia agave alder aloe anemone anthill arbor aspen aster avalanche azalea banner banyan barbecue barnacle
    barrier beehive begonia birdfeeder birdhouse bonfire bracken bramble brazier bunting buoy buttercup campfire
    capstan cement-mixer chestnut clam cobweb cockle compost conch cone confetti conker cowslip crabpot crow's-nest
    crowbar delphinium dibber drain driftwood fig-tree firepit firework fireworks flag forget-me-not foxglove
    fuchsia geranium gladiolus gorse grate grill hardhat haybale hayloft hazel headlamp heather hemlock hive holly
    hollyhock honeysuckle hornbeam hose hosepipe hydrangea icicle jack jasmine juniper larch lawnmower leafblower
    letterbox lifebelt lifebuoy lifejacket lime-tree linden lobster-pot lupin mallet manger manhole mimosa mistletoe
    mooring mower mussel nettle newsstand olive-tree oyster pansy parking-meter pennant petunia phonebooth phonebox
    pickaxe picnic-table pinecone plane-tree postbox primrose pulley rhododendron roadroller rowlock sea-urchin
    secateurs skewer sledgehammer sleeping-bag snapdragon snowflake snowplow snowshoe spiderweb spit sprinkler
    stalactite stalagmite steamroller streamer strimmer sweetpea sycamore tarpaulin tiller tollbooth tollgate
    traffic-cone trough trowel turnstile urchin walnut-tree watering-can waterwheel weathercock weathervane web
    winch windlass windowbox windpump yew yucca
""")
_MORE_FOOD = listed("""
    ale anchovy baklava basil blini bonbon brandy bratwurst brisket brownie calamari candyfloss cannoli cantaloupe
    caper cardamom cashew caviar chapati chip chive chop chorizo chunk chutney ciabatta cilantro cinnamon clementine
    clove cognac coriander corndog courgette couscous crisp crouton crumpet cube currant custard dill drumstick
    edamame elderberry empanada enchilada fajita falafel fennel fillet flounder focaccia frankfurter frittata fudge
    galette gherkin gin gingerbread gooseberry goulash guava gumdrop gyro haddock halibut hazelnut honeydew ketchup
    kimchi kumquat lager lasagna licorice lychee macadamia macaroon mackerel maki margarita martini mayonnaise
    meatball meatloaf meringue miso mocha mojito mulberry mustard naan nacho nougat nugget nutmeg onigiri oregano
    paella paprika parsley passionfruit pastrami pecan peppercorn pickle pierogi pistachio pita praline profiterole
    prosciutto prosecco prune quesadilla quiche quince raisin ravioli relish ribs risotto rosemary rum saffron sage
    salami samosa sardine sashimi satsuma scallion scallop schnitzel shallot shawarma sherry shortbread soba sole
    sorbet souffle sourdough stout strudel sultana tagine tamale tangerine tarragon tempura thyme tiramisu toffee
    tofu tortilla trifle truffle turmeric tzatziki udon vanilla vinegar vodka wafer wedge whisky wonton
""")
_TRADES = listed("""
    amber amethyst amp amplifier ash astrolabe atv backgammon bagpipe barometer baton beacon beaker billiard
    blunderbuss boiler bomb bongo boutonniere boxing-glove brood bubble buckler buggy bumper-car bundle bust
    cable-car capsule cask casket cassette castanet cd censer centrifuge certificate chairlift chart checkers
    climbing-frame cogwheel coil colony conga container conveyor convoy cornet corsage crankshaft crop crucifix
    cuckoo-clock cue didgeridoo diploma discus distaff dodgem dory doubloon drip dvd ember euphonium ferris-wheel
    flare fleet flock floodlight flugelhorn flywheel font foosball forceps fossil fresco funicular furnace gaggle
    gamepad gavel glockenspiel go-kart goalpost grenade gurney hang-glider harpoon heap hearse herd hobbyhorse
    hockey-stick hopper horseshoe houseboat hurdle hydrofoil hymnal icon ingot jade javelin jetpack joystick kart
    katana kazoo keg kiln lasso lifeboat litter marimba matchstick memorial menorah metronome missile modem module
    monorail monument mosaic motorhome mound ocarina opal pack paddleboat pallet panpipes parachute parade
    paraglider pawn periscope pew piccolo pinball pipe pipeline pipette piston plaque playhouse pocketwatch pod
    pogo-stick pole-vault pontoon pool-table potter's-wheel prayerbook probe punchbag punt quadbike quartz radar
    rapier recorder reel relief rollercoaster rook rosary roulette saber sabre sandpit sapphire scalpel scepter
    sceptre scimitar searchlight see-saw sextant sheaf shoal shuttlecock sidecar sitar sketchbook skiff
    skipping-rope slingshot slot-machine smokestack snooker sonar soot soundboard sousaphone space-suit spindle
    spotlight sprig sprocket spur squadron standard steamboat stethoscope stopwatch subwoofer swarm syringe taper
    tapestry tarot test-tube theremin thermometer timpani top topaz torpedo totem trident turntable valve vat
    ventriloquist vibraphone vinyl wad webcam wicket x-ray
""")
THINGS = (
    _VEHICLES | _FURNITURE | _FOOD | _TOOLS | _PLANTS | _MUSIC_AND_PLAY | _FANTASY | _HOUSEHOLD | _OUTDOORS | _MORE_FOOD | _TRADES
)
LARGE = _FURNITURE & listed("""
    table desk workbench bench chair armchair rocker recliner stool ottoman throne sofa couch settee loveseat bed bunk cot
    crib hammock dresser wardrobe cabinet sideboard bookcase counter island altar piano organ stove oven fridge freezer
    fireplace bathtub tub gate fence billboard fountain carousel trampoline well tent marquee gravestone console blackboard whiteboard chalkboard
""")
HUGE = _VEHICLES - listed("cart wheelbarrow trolley stroller pram drone balloon sled sledge scooter rover wheelchair")

GEAR = listed("""
    watch necktie cravat tights stockings stilettos clogs loafers moccasins slippers pads kneepads shoulder-pads gauntlet
    gauntlets breastplate chainmail visor tunic toga sash corset petticoat negligee leotard tutu jumpsuit spacesuit
    wetsuit tracksuit jersey parka anorak windbreaker trenchcoat blazer smock overalls suspenders braces cufflinks brooch
    pendant locket choker anklet bangle diadem headdress headset earphones earbuds earmuffs lanyard sling bandage
    crutch crutches saddlebag saddlebags bridle reins stirrups backpack rucksack knapsack handbag purse pouch fanny-pack
    holster bandolier dreadlocks afro mohawk stubble goatee sideburns fangs muscles wrinkles dimples scar scars
    wellies wellingtons galoshes curlers staff cane crook tattoo piercing cybernetics robes hoodie kerchief neckerchief shawl stole muff cummerbund
""")
PART_WORDS = listed("""
    stud studs rivet rivets hinge hinges knob knobs button buttons lever dial pedal pedals spoke spokes hubcap hood bonnet
    bumper grille windshield windscreen fender tailgate exhaust engine antenna aerial propeller rotor rotors hatch
    porthole portholes rigging figurehead bow stern keel prow turret turrets spire spires dome domes gable gables
    balcony balustrade shingles tiles panel panels trim trimmings trimming lining hem ruffles lace sequins beads
    fringe tassels pompom piping carvings engravings inlay inlays ornament ornaments decal decals logo number lettering
    graffiti rust dent dents crack cracks scratch scratches patch patches stain stains wing wings fin fins tentacle
    tentacles antennae stinger proboscis hump humps trunk tusk tusks mandible pincers talon talons crest comb wattle
    hooves stripe stripes rosette rosettes blossom blossoms thorn thorns bark leaf leaves needle needles canopy glaze
    crust sprinkle sprinkles swirl swirls drizzle layer layers tier tiers slice slices wick handle handles lid spout rim
    base pedestal leg legs armrest armrests backrest headboard cushions upholstery drawer drawers shelves pocket
    sleeve face hands arm arms ear roof
""")

GERUNDS = listed("""
    rocking watering parking washing sewing swimming fishing sleeping dining boxing frying wrapping knitting shopping
    cutting rolling sailing racing vending mixing magnifying changing waiting operating climbing typing measuring hunting
    training bowling skating hiking diving riding drying ironing packing filling landing mowing slot drinking boiling
    folding spinning flying
""")  # "a cherry wood rocking horse": the -ing word and a noun are one name

STYLE_WORDS = listed("""
    lofi lo-fi tilt-shift bokeh flare glare vignette vignetting grain noise chiaroscuro sfumato impasto hdr raw uhd 4k 8k
    16k hd fullhd octane unreal blender pixar ghibli dreamworks disney artstation deviantart behance cgi vfx raytracing
    ray-tracing raytraced ambient-occlusion cel-shading cel-shaded lowpoly voxel claymation stop-motion stopmotion
    isometric macro microphotography fisheye wide-angle telephoto anamorphic panorama panoramic timelapse long-exposure
    double-exposure cyanotype daguerreotype tintype polaroid kodachrome ektachrome fujifilm kodak leica nikon canon
    hasselblad lomography cinemascope imax technicolor monochrome sepia grayscale greyscale duotone halftone risograph
    screenprint lithograph letterpress ukiyo-e sumi-e vaporwave synthwave retrowave cyberpunk steampunk dieselpunk
    solarpunk cottagecore dark-academia noir neo-noir rococo baroque renaissance impressionism expressionism cubism
    surrealism futurism suprematism constructivism minimalism maximalism brutalism bauhaus pointillism fauvism dadaism
    hyperrealism photorealism realism flash brushwork brushstrokes deco nouveau gouache tempera watercolor watercolour aquarelle acrylic pastel
    charcoal graphite ink linework lineart crosshatching stippling doodle caricature comic manga anime chibi kawaii
    webtoon storyboard matte-painting keyframe splash-art wallpaper mockup infographic blueprint diagram collage
    papercut origami-style embroidery-style stencil editorial photoshoot headshot mugshot aesthetic aesthetics vibe vibes
    ambience ambiance backlighting backlight backlit sidelight rimlight rim-light lighting godrays god-rays caustics
    subsurface dof f/1 iso aperture shutter lens exposure saturation contrast symmetry composition framing viewpoint
    overexposed underexposed oversaturated desaturated ultradetailed hyperdetailed intricate masterpiece award-winning
    trending filmic cinematic shapes colours colors palette hues tones tints glow
""")
