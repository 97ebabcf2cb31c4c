"""Who lives and acts, by class. Our own lists; ``is_agent`` tells professions that no list has by their endings."""

from __future__ import annotations

from ..tables import listed

__all__ = ["BEINGS", "is_agent"]

_PEOPLE = listed("""
    man woman boy girl child kid baby infant newborn toddler teenager teen schoolboy schoolgirl pupil adult elder person
    people lady gentleman gent guy lad lass fellow stranger neighbor neighbour crowd audience mob gang family couple
    twin triplet orphan widow widower bride bridesmaid groom bridegroom husband wife mother father mom mum dad son
    daughter brother sister sibling uncle aunt nephew niece cousin grandmother grandfather grandma grandpa granny
    granddaughter grandson friend guest host hostess customer patient passenger passerby pedestrian commuter onlooker
    bystander spectator witness tourist backpacker hermit beggar hobo tramp pauper peasant villager commoner nobleman
    noblewoman duke duchess earl count countess baron baroness lord king queen prince princess emperor empress pharaoh
    sultan rajah tsar khan chieftain chief shaman druid oracle prophet saint pope bishop cardinal nun monk priest
    priestess rabbi imam pilgrim missionary
""")
_WORK = listed("""
    chef cook waitress maid butler valet nanny nurse medic surgeon vet clerk judge attorney thief burglar spy cop
    sheriff guard bodyguard cadet recruit knight squire page paladin samurai ronin ninja geisha sumo gladiator spartan
    viking pirate corsair cowboy cowgirl outlaw bandit apprentice assistant barista mechanic blacksmith locksmith
    goldsmith cobbler potter mason miner lumberjack coachman jockey mascot athlete acrobat gymnast judoka goalie
    quarterback captain pilot astronaut cosmonaut scuba-diver bard minstrel jester clown mime dj
    soloist soprano diva ballerina virtuoso maestro nomad bedouin gaucho matador torero geek nerd punk hippie hipster
    influencer coach referee umpire model intern ceo architect monarch busker gunslinger ranger scout mummer crew
    orchestra band choir troupe squad army
""")
_MAMMALS = listed("""
    dog puppy pup cat kitten horse pony foal colt filly gelding mare stallion donkey mule cow bull calf ox bison buffalo yak
    sheep lamb ram ewe goat pig piglet sow boar hog warthog rabbit bunny hare hamster gerbil guinea-pig mouse rat shrew
    vole mole squirrel chipmunk marmot beaver hedgehog porcupine fox wolf coyote jackal hyena dingo bear cub panda koala
    kangaroo wallaby wombat possum opossum platypus lion lioness tiger tigress leopard cheetah jaguar panther lynx
    bobcat cougar puma ocelot elephant rhino rhinoceros hippo hippopotamus giraffe zebra deer stag doe buck fawn moose
    elk reindeer caribou antelope gazelle impala wildebeest ibex chamois okapi tapir camel dromedary llama alpaca
    monkey ape gorilla chimpanzee chimp orangutan baboon lemur gibbon macaque mandrill sloth anteater armadillo pangolin
    raccoon skunk badger otter weasel ferret stoat mink mongoose meerkat seal walrus manatee whale orca dolphin porpoise
    narwhal bat steed hound mutt mongrel kitty
""")
_OTHER_ANIMALS = listed("""
    shark fish goldfish koi carp salmon trout tuna cod eel pike perch piranha stingray seahorse octopus squid
    jellyfish cuttlefish crab lobster shrimp prawn turtle tortoise snake cobra python viper rattlesnake
    lizard gecko iguana chameleon crocodile alligator frog toad tadpole newt salamander axolotl dinosaur raptor
    velociraptor stegosaurus triceratops brontosaurus pterodactyl bird parrot parakeet macaw cockatoo canary owl eagle
    hawk falcon vulture condor buzzard osprey kestrel crow raven magpie jay pigeon dove sparrow finch robin
    wren starling swallow swift nightingale kingfisher swan goose gosling duck duckling mallard chicken hen rooster
    cockerel chick turkey pheasant quail partridge peacock flamingo penguin puffin seagull gull albatross pelican stork
    heron egret ibis crane ostrich emu cassowary toucan hornbill hummingbird woodpecker cuckoo bee bumblebee
    wasp hornet butterfly moth dragonfly firefly ladybug ladybird beetle ant termite spider tarantula scorpion centipede
    snail slug worm caterpillar grasshopper cricket locust mantis mosquito fly insect reptile amphibian mammal beast
    creature critter
""")
_DOGS_AND_CATS = listed("""
    poodle labrador terrier bulldog retriever corgi husky dalmatian beagle dachshund chihuahua shepherd pug spaniel
    greyhound whippet collie rottweiler doberman mastiff setter pointer schnauzer pekingese malamute samoyed akita shiba
    bloodhound basset boxer tabby calico tomcat siamese
""")
_FANTASY = listed("""
    robot android cyborg mecha alien martian monster ghost phantom specter spectre spirit wraith ghoul zombie
    vampire werewolf mummy skeleton angel cherub seraph demon devil imp fairy faerie pixie sprite nymph dryad elf dwarf
    hobbit gnome goblin orc ogre troll giant giantess cyclops titan golem mermaid merman siren kraken leviathan hydra
    dragon wyvern basilisk unicorn pegasus phoenix griffin gryphon sphinx chimera minotaur centaur satyr faun yeti
    bigfoot sasquatch kaiju godzilla wizard witch warlock sorcerer sorceress enchantress necromancer mage genie djinn
    hero heroine superhero villain supervillain god goddess deity snowman scarecrow doll puppet marionette mannequin
    statue gargoyle teddy figurine nutcracker santa
""")
_MORE = listed("""
    aardvark aardwolf abbess abbot accountant acolyte adder admiral agouti alto ambassador amputee anaconda
    anglerfish aphid apostle apothecary appaloosa aristocrat ascetic asp attendant automaton aviator avocet bailiff
    bandicoot banshee barbarian bargee baritone barn-owl barracuda behemoth bellhop beluga bichon biker bilby
    bittern blackbird bluebird boa bonobo bosun boyfriend brat bream bronco budgerigar budgie bugbear bullfinch
    bullfrog bullock bully bureaucrat cabbie caiman caliph capuchin capybara caracal castaway catfish chaffinch
    chancellor changeling chaperone chaplain chauffeur chickadee chinchilla chupacabra cicada civet classmate clone
    clownfish clydesdale cockatiel coder colleague colonel colossus commando comrade concierge conductor conscript
    convict coot copperhead cormorant corporal cowherd crayfish cthulhu curate curlew custodian daimyo dairymaid
    damselfly dandy daredevil deacon deckhand decorator deerhound delegate dervish dik-dik diplomat disciple
    dormouse drag-queen drake drill-sergeant dugong dyer earthworm earwig echidna eland emir emo enemy envoy ewok
    fakir flea foe fop foxhound friar gamer gannet gaur genet gharial girlfriend gnu goatherd goldfinch goshawk goth
    grebe greenfinch gremlin grub guerrilla guillemot guineafowl guru heir heiress herald hermit-crab hinny
    hobgoblin hooligan hoopoe horseshoe-crab hostage humanoid humpback ifrit initiate inmate invalid inventor
    jackdaw janitor juggernaut kabuki-actor kappa katydid kea kelpie kitsune kittiwake kobold komodo-dragon krill
    kudu lacewing laird lama lamprey lapwing lark leech lemming leprechaun lich lieutenant linnet lionfish loon
    lorikeet loser lout lovebird lover maggot magistrate magnate maharajah maharani maltese mamba mandarin manta
    manta-ray marabou margay marlin marmoset marten martyr masseur masseuse matriarch mayfly mayor mezzo-soprano
    migrant milkmaid millipede minke mockingbird moorhen moray muntjac muskrat mustang mutant nag naiad nautilus
    navigator neanderthal newlywed nightjar novice numbat nuthatch nutria official oni opponent oriole oryx palomino
    papillon paramedic patriarch peafowl peahen persian pickpocket pintail piper pipit polecat pontiff president
    prospector psychic pufferfish quokka ragdoll rani rascal raver razorbill rebel refugee replicant retiree rhea
    roach roc roebuck roommate sable sailfish saint-bernard scarab scribe secretary secretary-bird selkie senator
    serf sergeant serval shah sheepdog sheik sheikh shepherdess shoat shoebill shogun silverfish siskin skink skua
    skylark slave snipe socialite sparrowhawk sphynx spoonbill spouse st-bernard stag-beetle stevedore steward
    stewardess sturgeon sunfish supermodel surveyor swami sweetheart swineherd swordfish tamarin tasmanian-devil
    teal teammate tench tengu tenor tern terrapin thrush thug titmouse tuatara tycoon vagabond valkyrie vandal
    veteran vicar victim wagtail wapiti warden waxwing weevil wendigo werebear widgeon wolfhound wolverine woodcock
    woodlouse yogi zebu
""")
BEINGS = _PEOPLE | _WORK | _MAMMALS | _OTHER_ANIMALS | _DOGS_AND_CATS | _FANTASY | _MORE

_AGENT_ENDINGS = (
    "herder", "keeper", "maker", "seller", "dealer", "player", "fighter", "hunter", "tamer", "charmer", "worker", "rider", "driver", "dancer",
    "bearer", "singer", "writer", "walker", "eater", "monger", "smith", "wright", "skater", "skier", "boarder", "climber",
    "teacher", "trainer", "catcher", "thrower", "blower", "swallower", "breather", "juggler", "performer", "vendor",
    "man", "woman", "boy", "girl", "ist", "ologist", "eer", "ician", "grapher", "wife", "master", "mistress", "lord",
)  # fmt: skip
_NOT_AGENTS = listed("""
    supper number thunder timber leather feather finger ginger border order corner quarter shutter gutter rafter cluster
    disaster center theater amber ember lumber cucumber chamber banner diner dinner barrier glacier frontier copper
    pepper zipper wrapper newspaper butter glitter litter summer winter weather shower flower tower river silver water
    paper powder ladder bladder boulder shoulder folder border cinder blunder slipper sweater jumper blazer loafer
    trainer sneaker toaster mixer cutter lighter opener heater cooker container holder cleaner poster counter hanger
    planter roller shaker washer dryer burner tanker freighter cruiser chopper cooler cover trailer locker binder marker
    sticker blender pointer streamer letter sprinkler charger spinner tumbler scooter computer printer scanner speaker
    router monitor cellar pillar altar samovar sensor mirror tractor motor rotor projector reactor elevator escalator
    platter lever beaker strainer steamer burger cracker skewer lobster oyster badger hamster panther chandelier pier
    discover together another whether either neither other however under over after never ever rather bigger smaller
    larger taller shorter darker brighter lower upper inner outer former latter proper sober somber sinister lavender
    meander shelter filter saucer drawer dresser rocker bumper fender propeller grinder crater canister register
    cloister monster plaster bolster screwdriver typewriter stapler skyscraper wallpaper sandpaper
    helicopter thermometer barometer teleprompter cadaver shiver quiver clover answer prayer layer ether

    mist fist wrist list twist waist cyst grist gist beer deer pier sheer steer career veneer caiman
    talisman ottoman checklist playlist blackberry hollyhock 
    typewriter lighter midwife penknife walkman snowblower leafblower 
""")


def is_agent(word: str) -> bool:
    """ "beekeeper", "saxophonist", "ferryman": by the ending."""
    return len(word) > 5 and word.endswith((*_AGENT_ENDINGS, "er", "ier", "stress")) and word not in _NOT_AGENTS
