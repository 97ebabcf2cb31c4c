"""Where things can be, by class. Our own lists; ``PLACE_ENDINGS`` tells compounds that no list has."""

from __future__ import annotations

from ..tables import listed

__all__ = ["BUILDINGS", "HOUSES", "PLACES", "PLACE_ENDINGS", "SCENERY"]

_ROOMS = listed("""
    room kitchen bedroom bathroom washroom restroom toilet lavatory pantry larder scullery parlor parlour den study
    attic loft basement cellar vault crypt catacombs foyer vestibule lobby atrium lounge hall hallway corridor
    landing stairwell staircase nook alcove cubicle office boardroom classroom lecture-hall auditorium gymnasium
    dormitory dorm ward clinic surgery infirmary morgue laboratory lab studio workshop workroom atelier forge smithy
    foundry boudoir chamber cell prison-cell dungeon lair hideout armory armoury cloakroom closet
    changing-room sauna spa steam-room salon barbershop hairdresser nursery playroom conservatory
    sunroom veranda verandah porch portico balcony terrace patio rooftop penthouse apartment flat suite dressing-room
    backstage green-room control-room interior cafeteria mess-hall refectory archive
""")
_VENUES = listed("""
    station cinema theater theatre pub tavern diner mall supermarket bunker hangar inn laundromat prison jail
    cafe café coffeehouse bistro brasserie trattoria pizzeria bar saloon nightclub club
    disco discotheque casino arcade opera concert-hall bandstand stage arena amphitheater
    amphitheatre colosseum stadium racetrack racecourse velodrome circus fairground fair funfair carnival festival fete fête rodeo
    theme-park zoo aquarium planetarium market marketplace bazaar souk flea-market
    stall showroom
    auction courtroom court city-hall terminal platform
    airport airfield runway heliport spaceport harbor harbour port marina dock docks dockyard shipyard wharf quay
    jetty pier plant quarry mine mineshaft
    construction-site scaffold scaffolding junkyard scrapyard landfill barnyard farmyard
    stable stables paddock corral pen sty coop dovecote greenhouse
""")
_STREETS = listed("""
    street road highway freeway motorway expressway autobahn lane alley alleyway avenue boulevard promenade esplanade
    square plaza piazza roundabout crossroads intersection junction crossing crosswalk sidewalk pavement kerb curb
    driveway cul-de-sac footpath path pathway trail track towpath bypass overpass underpass viaduct aqueduct
    footbridge drawbridge tunnel garage carport parking lot courtyard yard backyard cloister quad quadrangle campus concourse
    schoolyard graveyard cemetery churchyard village town city metropolis suburb district neighborhood neighbourhood
    slum ghetto chinatown downtown uptown skyline cityscape rooftops ramparts battlements ruins ruin
    campground campsite camp encampment outpost checkpoint border barricade trench battlefield minefield
""")
_WATERS = listed("""
    sea ocean lake pond river stream brook creek canal moat lagoon bay cove inlet gulf strait fjord estuary delta
    marsh swamp bog fen mire wetland wetlands mangrove mangroves everglades oasis spring waterfall cascade rapids
    reservoir dam pool swimming-pool whirlpool puddle shallows surf waves reef seabed seafloor abyss
    shore seashore lakeshore coast coastline beach sandbank sandbar mudflat tide-pool rockpool riverbank riverbed
    waterfront waterside seaside lakeside floodplain reeds rushes kelp water
""")
_LAND = listed("""
    field meadow pasture lawn grass grassland prairie savanna savannah steppe plain plains tundra heath moor moorland
    desert dune dunes wasteland badlands wilderness outback bush scrub veld valley vale dale glen gorge ravine canyon
    gully gulch chasm cliff clifftop bluff plateau mesa summit mountaintop mountainside hilltop hillside
    foothills slope slopes piste volcano crater caldera glacier icefield snowfield snowdrift snow ice sand mud soil
    dirt gravel asphalt cobblestones forest woods wood woodland hole pit ditch promontory headland tarn chute bazaar taiga burrow jungle rainforest grove copse thicket undergrowth
    clearing glade orchard vineyard plantation garden park arboretum maze hedge-maze island islet archipelago atoll
    peninsula cape isthmus cave cavern grotto underworld terrain landscape countryside farmland farm ranch homestead
    allotment paddy rice-paddy flowerbed wheatfield cornfield leaves foliage horizon wreck shipwreck
""")
_SPORTS = listed("""
    pitch playground playing-field rink racecourse ballpark gridiron court ring boxing-ring dojo gym
    halfpipe skatepark bowling-alley golf-course putting-green driving-range ski-slope velodrome raceway speedway
    finish-line touchline sideline sidelines bleachers grandstand stands podium catwalk dancefloor
""")
_TRANSPORT = listed("""
    cockpit galley carriageway deck poop-deck quarterdeck bow stern gangway gangplank aisle compartment
    dining-car hold engine-room bus-stop taxi-rank platform helipad launchpad runway tarmac
""")
_FANTASY = listed("""
    space outer-space universe galaxy cosmos nebula void dimension heaven heavens hell hades inferno
    purgatory valhalla olympus atlantis eden paradise wonderland fairyland dreamland dreamscape otherworld limbo
    underworld multiverse cyberspace moonbase hellscape moonscape
""")
_SKY = listed("sky skies clouds cloud moon sun stars rainbow aurora stratosphere sunbeams moonrise ")
_FIXED = listed("stage dais floor carpeting ground pavement doorstep doorway porch threshold surface interior indoors outdoors")
_CITIES = listed("""
    rome paris london tokyo venice berlin vienna prague madrid barcelona lisbon amsterdam york chicago kyoto beijing
    shanghai moscow istanbul cairo athens florence milan naples seoul bangkok hanoi mumbai delhi jaipur marrakesh
    marrakech casablanca havana rio lima cusco quito bogota budapest warsaw krakow dublin edinburgh glasgow oxford
    cambridge stockholm oslo copenhagen helsinki reykjavik brussels bruges zurich geneva salzburg munich hamburg
    cologne dresden seville granada porto santorini mykonos crete sicily tuscany provence normandy brittany bavaria
    scotland ireland wales england france germany italy spain portugal greece turkey russia japan china india nepal
    tibet mongolia vietnam thailand indonesia bali australia zealand iceland norway sweden finland denmark
    switzerland austria poland egypt morocco kenya tanzania africa america mexico peru brazil argentina chile
    patagonia canada alaska hawaii california texas arizona nevada vegas angeles francisco boston seattle miami
    orleans manhattan brooklyn antarctica arctic sahara gobi himalayas alps andes amazon serengeti
""")

PLACES = (
    _ROOMS | _VENUES | _STREETS | _WATERS | _LAND | _SPORTS | _TRANSPORT | _FANTASY | _SKY | _FIXED | _CITIES
) - listed("track pen leaves diner diamond cape plant bush spring bow hold stands stern border landing quarry stall tunnel cave cavern greenhouse")
PLACE_ENDINGS = (
    "room", "yard", "field", "side", "scape", "shore", "wood", "woods", "land", "lands", "shop", "store", "port", "bank",
    "top", "bed", "way", "park", "market", "ground", "grounds", "front", "floor", "square",
)  # fmt: skip
"""Endings of compounds ("brickyard", "ropewalk"); only where what is before them is a word of its own."""
BUILDINGS = listed("""
    church cathedral temple shop store supermarket museum gallery hospital station factory barn house castle school
    restaurant library greenhouse cave cavern tunnel cabin hut palace tent igloo tower lighthouse mansion cottage mosque
    synagogue pyramid hotel shed chapel monastery windmill skyscraper bus train subway airplane plane ship submarine
    elevator lift abbey priory convent basilica shrine pagoda fort fortress citadel keep manor villa chalet bungalow
    farmhouse treehouse boathouse teahouse guesthouse shack shanty hovel yurt tepee teepee wigwam pavilion gazebo
    pergola kiosk booth stall observatory planetarium silo mill watermill hostel motel inn tavern saloon pub bar diner
    bank hangar barracks bunker orphanage asylum university college academy ferry yacht galleon airliner jet helicopter
    spaceship spacecraft starship airship zeppelin tram trolleybus limousine van caravan camper whale bakery
    bookshop boutique florist pharmacy mall cinema theater theatre arena stadium gym
""")
HOUSES = listed("""
    cafe café coffeehouse diner bistro brasserie trattoria pizzeria bar pub tavern saloon inn nightclub casino cinema opera
    aquarium planetarium mall supermarket grocery bakery boutique bookshop bookstore pharmacy florist laundromat pawnshop
    courthouse parliament embassy depot boathouse mill refinery brewery distillery winery sawmill stable henhouse
    greenhouse garage prison jail armory library gym sauna barbershop hairdresser bank townhall bazaar arcade
""")
SCENERY = listed("""
    wall hill mountain ridge hilltop mountaintop bridge roof stairs stair staircase steps peak track rail rails railway cliff
    slope curtain curtains windowsill sill ledge rock rocks boulder boulders wave wallpaper tile tiles tiling brickwork
    paneling mural drapery drapes ceiling window doorframe archway arch hearth embankment dyke dike levee parapet
    escalator catwalk scaffold
""")
