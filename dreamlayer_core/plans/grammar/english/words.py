"""English function words, verbs, adjectives and set phrases. Our own lists."""

from __future__ import annotations

from ..tables import listed, mapped, sequences

DETERMINERS = listed("""
    a an the this that these those another each every his her its their my our your either any
""")
POSSESSIVES = listed("his her its their my our your")
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "thousand": 1000,
    "dozen": 12,
}  # fmt: skip
# How many a vague word is: our choice, and a note of the plan says so.
VAGUE = {"several": 3, "some": 3, "few": 3, "many": 5, "numerous": 5, "various": 3, "multiple": 3, "countless": 8}
ALL_WORDS = listed("all both half just only about around exactly approximately nearly almost over")
BEFORE_NUMBER = listed("all both half just only exactly about approximately nearly almost")
COLOURS = listed("""
    red blue green yellow orange purple violet pink brown black white gray grey beige cyan magenta turquoise teal
    maroon navy
    crimson scarlet indigo lavender lilac olive gold golden silver bronze copper ivory cream tan khaki azure emerald
    ruby
    amber coral peach mint mustard rose burgundy charcoal blond blonde ginger multicolored multicoloured colorful
    colourful
    rainbow rainbow-colored transparent pastel
""")
NOUN_COLOURS = listed(
    "orange gold silver bronze copper cream mustard salmon rose coral peach lavender mint ruby emerald charcoal rainbow olive violet lilac"
)
SHADES = listed("light dark bright deep pale pastel neon dull vivid royal sky navy lime forest baby hot")
ADJECTIVES = listed("""
    big small large little tiny huge giant gigantic enormous massive miniature mini tall short long wide narrow thin
    thick fat
    slim high low deep shallow broad round square rectangular triangular oval circular spherical cubic flat curved
    straight
    sharp blunt pointed wooden metal metallic plastic golden leather stone marble brick concrete ceramic porcelain
    rubber steel
    iron woolen woollen knitted cotton silk velvet paper cardboard clay glass crystal stained-glass old new young
    ancient modern
    antique vintage medieval futuristic retro fresh rotten ripe raw cooked hot cold warm cool wet dry clean dirty
    dusty muddy
    shiny glossy matte smooth rough soft hard fluffy furry hairy fuzzy spotted striped checkered plaid patterned
    plain simple
    fancy elegant beautiful pretty ugly cute handsome lovely adorable majestic magnificent gorgeous stunning happy
    sad angry
    smiling laughing crying sleepy tired playful curious friendly scary spooky creepy evil brave proud shy calm
    quiet loud busy
    empty full open closed broken cracked abandoned ruined rusty weathered worn lit unlit bright dark dim glowing
    sunny rainy
    cloudy foggy misty snowy stormy windy frozen icy sandy grassy rocky mossy leafy green lush wild tame tropical
    rustic cozy
    cosy urban rural suburban industrial magical mystical enchanted fantasy mythical mysterious strange weird
    surreal abstract
    realistic detailed colorful heavy light quick fast slow strong weak rich poor famous royal tabby stray single
    double triple
    first second third last left right upper lower front back middle central distant far near nearby close same
    different other
    lone lonely solitary electric digital mechanical red-haired blond bald bearded pregnant chubby skinny muscular
    elderly
    fluorescent neon minimalist minimalistic cinematic dramatic epic serene peaceful tranquil gloomy moody vibrant
    vivid hazy
    clear blue-eyed starry moonlit sunlit candlelit dense deserted crowded bustling endless vast steep winding
    sprawling
    overgrown crumbling floating flying burning sleeping running steaming traditional oriental persian japanese
    chinese
    italian french german american english african asian european indian mexican siamese arabic victorian gothic
    baroque
    juicy delicious sweet sour spicy crispy creamy frosted glazed baked grilled fried sliced half-eaten wrapped
    folded woven
    handmade homemade decorated painted carved polished gray-haired long-haired short-haired bushy curly wavy straight
    barefoot blooming fallen tiny whole entire real fake live dead upright asleep awake alone noble regal fierce
    gentle
    pointy crooked tilted wrinkled torn tattered ragged shabby gilded jeweled jewelled ornate lush ripe natural
    polar african teddy thatched cobbled paved tiled carpeted wild domestic lazy hungry thirsty armored armoured
    hooded
    masked caped winged horned tailed legged one-eyed friendly nervous excited surprised confused serious grumpy
    cheerful
    northern southern eastern western dappled faint soft hard tangled sturdy delicate fragile graceful slender sleek
    stout plump petite ominous eerie
    adolescent alpine aluminium aluminum andean angora antediluvian argentinian argyle arid australian autumnal
    aztec balinese balmy bare barren bavarian beaten beefy bengal bitter bleak blustery boggy bold brawny brazilian
    breezy brutalist bubbly bulky burlap burly burnt buttery buxom byzantine caribbean cashmere celestial chalky
    cheery cheesy chewy chiffon chrome clean-shaven cobalt colonial colossal concave content convex corduroy coy
    crabby cranky creaky crisp crunchy crusty cuban damp dapper debonair decrepit denim derelict desolate destitute
    diligent dingy divine docile downy dozy drab dreamy drizzly drowsy dutch earthenware ebony edwardian egyptian
    ethiopian feathery feral fertile feudal filthy fizzy flaky flannel fleece floral foamy forbidden forlorn
    fragrant frosty frothy fruity gallant gangly gargantuan gaudy gaunt georgian ghastly ghostly gilt gingham
    glacial glum gooey grainy grand greasy greek grim grimy grisly gritty grouchy gruesome gusty hawaiian
    heartbroken heavenly hefty herringbone hessian hexagonal hidden himalayan hirsute hoary hollow holy houndstooth
    humble humid idle immense imperial inca infernal inuit irate iridescent jamaican jolly jovial juvenile korean
    lanky leathery linen lithe livid lofty lovesick lowly loyal lurid macabre mahogany maori marshy mayan meaty
    mediterranean meek melancholy merry midwestern modernist modest mohair moist moldy molten mongolian monochrome
    monumental moroccan moth-eaten mother-of-pearl mouldy muggy nickel nigerian norse norwegian nude nutty oblong
    octagonal oily opaque opulent overripe paisley palatial pallid panicky parisian pastoral pensive pentagonal
    peppery peruvian pewter piebald pinstripe placid platinum plush plywood portly posh powdery prickly prim
    primeval pudgy pungent quaint rabid radiant rain-slick ramshackle rancid rattan rickety rococo rosewood rosy
    rotund ruddy samoan satin savage savory savoury scaly scrawny scruffy second-hand secondhand secret shaggy
    sicilian silky sinister slimy slushy smoky snowbound sodden soggy sole sooty spectral spiky squalid squat
    squeaky stale stalwart stately stationary sticky stocky stolen stoneware stripy stubby stumpy suave suede sugary
    sullen summery sunburnt sundry sunken surly swampy swanky swiss tangy tartan tatty teak teenage terracotta thai
    thorny threadbare tibetan timid titanium tortoiseshell translucent trendy tribal trusty tudor tumbledown tuscan
    two-tone unkempt unripe unshaven vacant valiant velvety venetian verdant vietnamese waxy weary weatherbeaten
    weedy weepy welsh wicker willowy wind-blown windblown windswept wintery wintry wiry wobbly wonky woolly wrinkly
    wrought zesty zigzag zinc
""")
ADJECTIVE_ENDINGS = (
    "ful",
    "less",
    "ous",
    "ish",
    "ic",
    "ical",
    "esque",
    "like",
    "able",
    "ible",
    "-colored",
    "-coloured",
    "shaped",
)
PREPOSITIONS = {
    "on": "on", "upon": "on", "atop": "on", "onto": "on", "in": "in", "inside": "in", "within": "in", "into": "in", "at": "in",
    "behind": "behind", "above": "above", "over": "above", "under": "under", "underneath": "under", "beneath": "under",
    "below": "under", "between": "between", "among": "in", "amongst": "in", "amid": "in", "amidst": "in", "beside": "beside",
    "near": "beside", "by": "beside", "alongside": "beside", "besides": "beside", "against": "against", "along": "along",
    "across": "along", "through": "along", "around": "beside", "towards": "beside", "toward": "beside", "past": "beside",
    "opposite": "beside", "beyond": "behind", "with": "with", "featuring": "with", "plus": "with", "without": "without", "not": "without", "no": "without", "neither": "without", "nor": "without",
    "during": "in", "from": "none", "to": "none", "for": "none", "of": "none", "like": "none", "as": "none", "after": "none",
    "before": "front", "astride": "on", "off": "none", "about": "none", "via": "none", "outside": "beside", "throughout": "in", "down": "along",
    "up": "along", "except": "none", "aboard": "in",
}  # fmt: skip
PREPOSITION_PHRASES = sequences({
    "on": "on top of; on the top of; on the edge of; at the edge of; on the surface of; at the top of; on the back of; on top; "
          "on either side ",
    "in": "in the middle of; in the center of; in the centre of; in the midst of; inside of; in the heart of; at the center of; "
          "at the centre of; in the corner of; at the bottom of; in the depths of; in the shade of; in the shadow of",
    "front": "in front of; at the foot of; at the base of; at the front of; ahead of; out in front of; right in front of; directly in front of; just in front of; "
             "in front; out front; out in front; "
             "in the foreground of",
    "behind": "out from behind; from behind; in back of; at the back of; in the back of; hidden behind; right behind; just behind; directly behind; "
              "partly behind; partially behind; half hidden behind; hidden by; obscured by; concealed by; blocked by; "
              "half-hidden by; half-hidden behind; partly hidden by; partially hidden by; in the background of",
    "above": "high above; right above; just above; directly above; over the top of",
    "under": "right under; directly under; just below; directly below; right beneath",
    "between": "in between; in the space between; right between; halfway between",
    "beside": "next to; right next to; close to; near to; to the left of; to the right of; on the left of; on the right of; "
              "on the left side of; on the right side of; to the side of; at the side of; by the side of; on the side of; "
              "side by side with; adjacent to; left of; right of; not far from; just left of; just right of; beside of; "
              "facing; across from; in line with;along ",
    "against": "up against; leaning against; propped against; set against; propped up against; leaned against",
    "with": "together with; along with; accompanied by",
    "none": "except for; apart from; instead of; because of; according to; such as; out of; away from; such as",
})  # fmt: skip
SPOTS = sequences({
    "left": "on the left; to the left; at the left; on the left side; on the left hand side; at left; on left; on the far left; "
            "to the far left; in the left half; on the left side of the picture; on the left side of the image; "
            "on the left of the picture; on the left of the image; at the left edge; in the left part",
    "right": "on the right; to the right; at the right; on the right side; on the right hand side; at right; on right; "
             "on the far right; to the far right; in the right half; on the right side of the picture; "
             "on the right side of the image; on the right of the picture; on the right of the image; at the right edge; "
             "in the right part",
    "middle": "in the middle; in the center; in the centre; at the center; at the centre; in the middle of the picture; "
              "in the center of the image; in the middle of the image; in the center of the picture; "
              "in the center of the frame; in the middle of the frame; in the very middle; in the very center",
    "midground": "further back; farther back; in the middle distance; in the middle ground; in the midground",
    "top": "at the top; at the top of the picture; at the top of the image; along the top; in the upper half; at the upper edge",
    "bottom": "at the bottom; at the bottom of the picture; at the bottom of the image; along the bottom; in the lower half",
    "top left": "in the top left corner; in the upper left corner; in the top left; in the upper left; at the top left; "
                "at the upper left; in the top-left corner; in the upper-left corner; in the top-left; on the top left; "
                "on the upper left",
    "top right": "in the top right corner; in the upper right corner; in the top right; in the upper right; at the top right; "
                 "at the upper right; in the top-right corner; in the upper-right corner; in the top-right; on the top right; "
                 "on the upper right",
    "bottom left": "in the bottom left corner; in the lower left corner; in the bottom left; in the lower left; "
                   "at the bottom left; at the lower left; in the bottom-left corner; in the lower-left corner; "
                   "in the bottom-left; on the bottom left; on the lower left",
    "bottom right": "in the bottom right corner; in the lower right corner; in the bottom right; in the lower right; "
                    "at the bottom right; at the lower right; in the bottom-right corner; in the lower-right corner; "
                    "in the bottom-right; on the bottom right; on the lower right",
    "background": "in the background; in the far background; in the distance; in the far distance; in the backdrop; "
                  "at the back; in the back; far in the background; far off in the distance; far away; far behind; on the horizon; in background",
    "foreground": "in the foreground; in the front; at the front; in foreground; up front; in the immediate foreground; "
                  "up close",
})  # fmt: skip
STYLE_PHRASES = sequences({
    "swallow": "in the style of; in a style of; inspired by; art by; painted by; illustrated by; drawn by; made in; "
               "trending on; in style of; style of; photographed by; directed by; shot on; shot with; rendered in; rendered with; "
               "photographed with; photographed in; painted in; drawn in; illustrated in",
    "style": "in black and white; black and white photo; highly detailed; very detailed; ultra detailed; intricately detailed; "
             "unreal engine; unreal engine 5; octane render; octane engine; cinema 4d; redshift render; arnold render; "
             "lumen render; unity engine; blender render; v-ray; sun glare; light leaks; film stock; motion blur; "
             "best quality; high quality; ultra realistic; hyper realistic; photo realistic; sharp focus; depth of field; "
             "shallow depth of field; soft focus; wide angle; studio lighting; soft light;long exposure; "
             "bird's eye view; rule of thirds; 3d render; digital art; concept art; 3 d; in focus; out of focus; "
             "high resolution; film noir; pixel art; still life; from above; from below; in detail; low poly; line art; "
             "double exposure; natural light; warm colors; warm colours; pastel colors; pastel colours",
})  # fmt: skip
MOOD_PHRASES = sequences({
    "mood": "at sunset; at sunrise; at night; at dawn; at dusk; at noon; at midday; at midnight; at twilight; at golden hour; "
            "during golden hour; at nighttime; by night; by day; by moonlight; by candlelight; by day; in the dark; "
            "on a sunny day; in broad daylight; in bright sunlight; during the day; during the night; in the golden hour; "
            "at the golden hour; late at night; early in the morning; at blue hour; after dark; after sunset; after rain; "
            "after the rain; before sunrise; before dawn;late in the evening",
})  # fmt: skip
# Participles whose object belongs to the thing itself.
ATTRIBUTES = sequences({
    "own": "full of; filled with; filled by; covered with; covered in; covered by; made of; made from; made out of; decorated with; "
           "adorned with; painted with; dressed in; dressed as; wrapped in; coated with; coated in; topped with; stuffed with; "
           "shaped like; carved from; carved out of; loaded with; packed with; with the words; with the text; dusted with; "
           "dressed all in; clad all in; dressed entirely in; draped with; draped in; crammed with; strewn with; studded with; "
           "laden with; encrusted with; armed with; equipped with; lined with; smeared with; splattered with; "
           "in the shape of; in the form of; disguised as; serving as; as; like; drizzled with; sprinkled with; framed by; clad in; painted in",
})  # fmt: skip
LEADS = sequences({
    "lead": "draw; draw me; paint; paint me; create; generate; make; make me; imagine; depict; show; show me; render; "
            "please draw; please paint; please create; please generate; please show; please; i want; i would like; i'd like; "
            "give me; i see; we see; you see; you can see; we can see; one can see;can you draw; could you draw; "
            "it shows; this shows; consider; picture this; visualize; visualise; i need; let there be; design; "
            "can you make; can you paint; could you paint; i want to see; we are looking at; you are looking at",
    "there": "there is; there are; there's; there was; there were;here is; here are; is there; are there",
})  # fmt: skip
SHOWS = listed(
    "shows showing depicts depicting features featuring displays displaying contains containing containing: of"
)
# Verbs of pictures. Their objects: an attribute of the doer ("own"), or a thing of its own ("plain").
OWN_VERBS = listed("""
    wear hold carry ride play read eat drink use smoke write sip wield grip clutch hug lick chew bite blow sport raise
    crack peel juggle grasp swing wave strum bear brandish cradle balance type knit cook mix pour munch nibble
    say spell form make have take do give cast brush wash resemble need sew cut bake stir show flip toss twirl squeeze cuddle pluck sharpen whisk knead slurp
    devour gulp inhale shuffle embroider crochet carve whittle sculpt sniff unpack slice lift shake shine mend darn weave launder mince chop reap thresh weld engrave prune mow hoist lug
""")
STAY_VERBS = listed("""
    stand sit lie rest hang lean place stay float park perch hover kneel crouch pose position set arrange locate
    stack scatter
    line lay situate mount display rise tower loom prop drift pile put sprawl wait spread
""")
PLAIN_VERBS = listed("""
    chase watch look face follow surround cover fill overlook pass cross push pull kick throw catch lead feed paint
    draw build
    run walk swim sleep fly jump leap dance sing smile laugh cry bark howl roar graze gallop trot crawl climb hide
    peek stare
    gaze point fight attack hunt meet greet kiss embrace touch pet guard protect approach land sail glide soar dive
    surf ski
    skate cycle drive travel march hike stroll wander rush race bloom blossom glow burn melt flow fall rain
    snow sparkle
    glitter shimmer flicker explode crash break open close reflect cast light illuminate decorate adorn hit shoot
    aim fish
    nap doze rest yawn stretch bounce roll spin drop splash flap pounce curl shelter gather flank frame tend water
    pick sell
    buy work study talk speak chat listen whisper argue compete celebrate dress enter leave exit block support
    attach tie
    connect hatch peck lurk prowl sneak creep stalk tug drag herd chase admire inspect examine explore search
    dig
    sweep clean repair fix pet stroke teach shade shadow overhang encircle line border buzz flutter swoop circle
    isolate entertain peer glance shout bake examine greet reach grow swirl tumble rear graze snooze enjoy observe see
    ascend bask beckon bicker billow bisect blink bristle
    brood browse capsize cavort clang clatter collapse collide creak croon crumble descend
    dine extend feast flee forage frolic frown gossip grapple grimace
    gush hobble huddle hum jingle jog joust jut limp loll
    maul murmur mutter nestle ooze perform plod plummet plunge
    pout prance pray preach propose protrude recline rehearse romp rustle
    scowl seep shriek simmer skid skim slouch slump sneer snuggle
    sob spar spurt squeak squint squirm stagger straddle stumble sulk sunbathe
    tinkle topple trickle trudge waddle waft weep wink
    wrestle wriggle writhe yodel
""")
IRREGULAR_VERBS = mapped("""
    sat:sit stood:stand lay:lie lain:lie hung:hang flew:fly ran:run swam:swim slept:sleep held:hold wore:wear
    rode:ride ate:eat
    drank:drink drove:drive threw:throw caught:catch led:lead fed:feed built:build sang:sing fell:fall grew:grow
    shone:shine
    broke:break hid:hide fought:fight met:meet leapt:leap burnt:burn bought:buy sold:sell dug:dig lit:light rose:rise
    swung:swing bore:bear made:make took:take gave:give did:do left:leave knelt:kneel wrote:write drew:draw shot:shoot
    set:set put:put laid:lay worn:wear held:hold ridden:ride eaten:eat driven:drive thrown:throw hidden:hide
    drawn:draw
    built:build grown:grow spread:spread cast:cast seen:see saw:see made:make bitten:bite shown:show
    lying:lie tying:tie dying:die
    strung:string bound:bind swept:sweep slung:sling clung:cling spun:spin stuck:stick struck:strike kept:keep bent:bend
    crept:creep sunk:sink flung:fling blown:blow flown:fly thrown:throw strewn:strew swum:swim sung:sing drunk:drink
    wound:wind stole:steal froze:freeze spoke:speak woke:wake tore:tear fled:flee sped:speed spat:spit wept:weep taught:teach
    brought:bring sent:send
""")
DROPPED_VERBS = listed("isolate depict show see set")  # "isolated on white": of the picture, not of the thing
GAZING = listed(
    "looking staring gazing pointing howling barking peering glancing smiling waving shouting"
)  # "at" what is no place
TRANSITIVE = listed(
    "feed chase watch entertain sell paint pull push throw catch lead kick hunt guard build clean chase"
)
BE = listed("is are was were be been being am isn't 's")
HAVE = listed("has have had having")
RELATIVES = listed(
    "that which who whom whose where when while as whereas whilst because so then but though although if"
)
PRONOUNS = mapped("""
    everything:all everybody:all it:it he:him she:him him:him her:him itself:it himself:it herself:it they:them them:them themselves:them both:them each:skip
    i:skip you:skip we:skip me:skip us:skip
""")
NOT_NOUNS = listed("""
    and or but then also too there here very only just so together please now still yet again once almost quite
    rather slightly gently slowly quickly brightly calmly peacefully happily quietly proudly softly directly
    side-by-side
    there's here's it's adrift aground ashore aloft ajar astray abreast
    half partly partially fully mostly nearly barely overhead
    all slowly lazily gracefully apart upright nearby away outside around up down off out over forward backward
    respectively simultaneously everywhere somewhere else today asleep awake alone afloat ablaze aglow while than is
    was
""")
PEEPING = listed("peeking peering peeping peek")  # "over a wall": from behind it
HIDING_FORMS = listed("hiding covering obscuring blocking concealing screening shading")  # "a rock that a cactus hides": it is behind the cactus
WEAKENING = listed("half partly partially almost nearly")  # before a verb: "a cactus half hides"
MOUNTING = listed("ride straddle")  # their object carries the rider
UNSEEN = listed("someone somebody i you we")  # "a doormat which someone left"
TOYS = listed("plush toy stuffed inflatable")  # "a plush shark" does not live
LABELS = {"front": "foreground", "foreground": "foreground", "back": "background", "background": "background", "left": "left",
          "right": "right", "middle": "middle", "center": "middle", "centre": "middle", "top": "top", "bottom": "bottom"}  # fmt: skip
# "At its foot", "to his right": beside it.
SIDES = listed("foot feet base side left right flank heels")
EVERYTHING = sequences({"all": "all of it; all of them; all of this; them all; it all"})
WHICH = sequences({"": "all of which; both of which; each of which; all of whom; both of whom; each of whom"})
JOINS = sequences({"": "but also; and also; as well as"})
EMPHASES = sequences({"": "not only; not just; in a line; in line; in single file; in a circle; upside down; upside-down; from head to toe; head to toe"})
LIGHT_ADVERBS = listed(
    "very quite rather slightly really extremely incredibly brightly beautifully partly partially half fully ultra"
)
