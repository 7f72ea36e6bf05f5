"""Stories in the manner of TinyStories, drawn from a grammar: the `builtin` data source.

A story is one of the PLOTS below. In a plot,

    {hero}       stands for a fact of this story: drawn once, the same wherever it returns;
    {Color}      is the same fact with a capital, {a color} the same fact with its article;
    [one|two|]   stands for one of the alternatives, drawn afresh; the last one here is empty;
    <sad>        stands for one of the RULES, a piece that several plots share;

and a blank line begins a paragraph. The facts are what makes a long context pay: the name, the
red kite and the bench of the first paragraph come back in the last, so a model that looks back
predicts them and one that counts pairs of words cannot.

Text is a function of (seed, index) alone, on every machine and every supported Python:
`random.Random.random` is the only source of chance, because it is the only method whose sequence
the standard library promises to keep (`choice` and `shuffle` have changed before).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TypeAlias

# ----------------------------------------------------------------------------- the world, as tables

BOYS = """Timmy Tom Ben Max Sam Jack Leo Finn Oscar Henry Noah Billy Charlie Daniel Freddy George
    Harry Jacob Kevin Luke Mark Nick Owen Peter Robin Simon Theo Victor Will Adam""".split()
GIRLS = """Lily Mia Sue Anna Emma Lucy Molly Ella Sara Zoe Amy Bella Clara Daisy Eva Grace Hannah
    Ivy Jane Kate Lola Mary Nina Olivia Polly Rose Sophie Tina Wendy Alice""".split()
PETS = """Pip Coco Bubbles Ember Fluffy Pepper Biscuit Ginger Patch Nibbles Sunny Whiskers Pebble
    Snowy Toffee Button Cinnamon Dizzy Fuzzy Hazel Mango Misty Noodle Peanut Rusty Sparky Twinkle
    Waffle Ziggy Bramble""".split()
SIZES = "little small tiny young".split()
CHILD_SIZES = "little little small young".split()  # nobody calls a boy tiny
TRAITS = """kind curious brave shy clever gentle happy cheerful careful silly funny friendly quiet
    busy playful lively sweet jolly honest helpful""".split()
ANIMALS = """dragon:cave rabbit:burrow bear:cave fox:den mouse:hole cat:basket dog:kennel duck:nest
    pig:barn frog:pond squirrel:tree hedgehog:log monkey:tree elephant:valley lion:den turtle:pond
    penguin:igloo goat:barn pony:stable panda:forest tiger:jungle raccoon:tree beaver:dam mole:tunnel
    koala:tree deer:forest otter:den donkey:stable hippo:swamp""".split()
HOUSES = "house cottage cabin hut farmhouse".split()
HOMELY = "cozy small warm tidy lovely snug round wooden".split()
LANDMARKS = """river hill bridge mill tower lighthouse waterfall church lake mountain station
    windmill forest sea crossroads""".split()
ELDERS = "mom dad grandma grandpa".split()
COLORS = "red blue green yellow purple pink orange white brown gray golden silver".split()
LOOKS = "shiny new old pretty soft lovely special round beautiful bright".split()
TOYS = """kite ball drum doll truck boat train puppet balloon hat teddy robot blanket book whistle
    umbrella wagon scooter airplane rocket flute trumpet bear horse car bell sled windmill acorn
    puzzle""".split()
WEATHERS = "sunny windy cloudy warm cool cold bright foggy breezy quiet lovely gray".split()
TIMES = "morning afternoon day evening".split()
CONTAINERS = """box basket bag jar chest drawer cupboard bucket pot bowl tin sack crate
    barrel""".split()
FRUITS = """apple/apples pear/pears peach/peaches plum/plums orange/oranges cherry/cherries fig/figs
    lemon/lemons apricot/apricots""".split()
SNACKS = """apple/apples banana/bananas cookie/cookies muffin/muffins carrot/carrots nut/nuts
    pancake/pancakes strawberry/strawberries cupcake/cupcakes sandwich/sandwiches pie/pies egg/eggs
    lollipop/lollipops waffle/waffles""".split()
MAGIC = "stone shell feather coin ring key bottle lamp pebble mirror spoon ribbon".split()
FRAGILE = "vase cup plate lamp teapot clock bowl jug glass mirror".split()
ROOMS = "kitchen hall bedroom attic parlor workshop".split()
FLYERS = "butterfly bird dragonfly ladybug moth bee leaf feather".split()
GUIDES = "owl crow snail toad goose badger stork swan moose camel".split()
CREATURES = """bird:seeds kitten:milk puppy:meat duckling:bread lamb:grass chick:corn bunny:clover
    piglet:potatoes calf:hay pigeon:crumbs""".split()
TROUBLES = [
    "stuck in the mud",
    "caught in a bush",
    "under a fallen branch",
    "with a thorn in its foot",
    "tangled in some string",
    "in a deep hole",
]
CLOTHES = "scarf hat coat sweater cap cape mitten shawl sock bow".split()
FLAVORS = "chocolate lemon honey vanilla banana carrot cherry pumpkin apple coconut".split()
CAKES = "cake pie bread pudding tart".split()
INGREDIENTS = "flour sugar milk butter eggs honey salt cream cinnamon".split()
MONSTERS = "giant ghost monster witch wolf troll pirate snake crocodile ogre".split()
SHADOWS = "coat chair broom lamp towel plant curtain shirt branch ladder".split()
PRIZES = "ribbon medal cup crown flag star badge trophy".split()
FLOWERS = "rose tulip daisy sunflower poppy lily pumpkin tomato violet bluebell".split()
CANS = "bucket cup jug kettle can pail bottle mug".split()
NUMBERS = "three four five six seven eight nine ten twelve twenty".split()

# What the hero loves to do: after "to", in the past, after "of".
HOBBIES = """dance/danced/dancing; sing songs/sang songs/singing songs; swim/swam/swimming;
    climb trees/climbed trees/climbing trees; read books/read books/reading books;
    draw pictures/drew pictures/drawing pictures; dig holes/dug holes/digging holes;
    tell jokes/told jokes/telling jokes; pick flowers/picked flowers/picking flowers;
    splash in puddles/splashed in puddles/splashing in puddles; jump/jumped/jumping;
    roll down hills/rolled down hills/rolling down hills; paint/painted/painting;
    watch the clouds/watched the clouds/watching the clouds; run/ran/running;
    count the stars/counted the stars/counting the stars; skip/skipped/skipping;
    build towers/built towers/building towers; play tag/played tag/playing tag;
    make mud pies/made mud pies/making mud pies; hum/hummed/humming;
    chase butterflies/chased butterflies/chasing butterflies; slide/slid/sliding;
    blow bubbles/blew bubbles/blowing bubbles; whistle/whistled/whistling;
    look for bugs/looked for bugs/looking for bugs; bake/baked/baking;
    feed the birds/fed the birds/feeding the birds; hop/hopped/hopping;
    play hide and seek/played hide and seek/playing hide and seek;
    collect shells/collected shells/collecting shells; swing/swung/swinging;
    tell stories/told stories/telling stories; play music/played music/playing music""".split(";")

# A place, how one is there, and what stands there.
PLACES = """park at: bench, slide, swing, fountain; beach at: sandcastle, big rock, boat, pier;
    forest in: log, stump, stream, oak tree; garden in: gate, fence, rose bush, shed;
    farm on: barn, haystack, well, tractor; playground at: sandbox, ladder, seesaw, tunnel;
    market at: flower stand, fruit cart, clock, bakery; lake at: dock, willow, canoe, flat stone;
    hill on: pine tree, kite post, stone wall, old gate; meadow in: brook, anthill, daisies, hedge;
    orchard in: beehive, wheelbarrow, apple tree, ladder; field in: scarecrow, pumpkins, pump, hut;
    village in: statue, clock tower, bell, notice board; harbor at: anchor, fishing net, ship, ropes;
    castle at: drawbridge, stairs, moat, flag; camp at: tent, campfire, picnic table, woodpile;
    pond at: reeds, duck house, lily pads, mossy log; valley in: cave, cliff, rope bridge, spring
    """.split(";")

# ------------------------------------------------------------------- pieces that several plots share

RULES = {
    "opening": """[Once upon a time, there was {a size} {kind} who loved to {love}. {His} name was
        {hero}.|Once upon a time, there was {a size} {kind} named {hero} who loved to {love}.|Once
        upon a time, {a trait} {kind} named {hero} lived in {a homely} {home} [near|by] the
        {landmark}. {hero} loved to {love}.|{hero} was {a trait} {kind} who lived [near|by|not far
        from] the {landmark}. [Every day|Every morning|After lunch|On most days], {he} liked to
        {love}.|Once there was {a size}, {trait} {kind}. {His} name was {hero}, and {he} loved to
        {love}.|In {a homely} {home} [near|by] the {landmark} there lived {a size} {kind} called
        {hero}. {He} was [very|always|so] {trait} and loved {loving}.|There once was {a size} {kind}
        named {hero}. {hero} was {trait}, and {he} loved to {love} [more than anything|with {his}
        {elder}|all day long|when it was {weather}].]""",
    "One day": """[One {weather} {time}|One {time}|It was a {weather} {time}. {hero} woke up early,
        and soon after breakfast|The next {time}|One {weather} {time}, after a good meal]""",
    "sad": """[{hero} was [very|so] sad.|{hero} felt [bad|sad|awful] inside.|A big tear rolled down
        {his} cheek.|{He} sat down and began to cry.|{His} eyes filled with tears.|{hero} wanted to
        cry, but {he} tried to be brave.]""",
    "scared": """[{hero} was scared.|{His} heart went thump, thump, thump.|{hero} began to
        shake.|{He} did not know what to do.|{His} tummy felt like a cold stone.|{hero} wished that
        {his} {elder} were there.]""",
    "happy": """[{hero} was so happy that {he} jumped up and down.|{hero} smiled a big smile.|{hero}
        laughed and clapped.|{hero} felt warm inside.|"Hooray!" shouted {hero}.|{He} had never been
        so happy.|"This is the best day ever!" said {hero}.]""",
    "ask": """["What is wrong?" asked {friend}.|"Why do you look so sad, {hero}?" asked
        {friend}.|"Are you all right, {hero}?" {friend} said in a soft voice.|"Please tell me what
        happened," said {friend}.|"Oh no! Can I help you?" asked {friend}.]""",
    "thanks": """["Thank you, {friend}!" said {hero}. "You are [a good|my best|a true] friend."|"You
        are so kind, {friend}," said {hero}.|{hero} gave {friend} a big hug. "Thank you!" {he}
        said.|"I could not do it without you," {hero} told {friend}.]""",
    "together": """[Then|After that], {hero} and {friend} {loved} together until [the sun went
        down|it was time for dinner|the stars came out|they were very tired|it was time to go
        home].""",
    "night": """[That night|At bedtime|When the moon came up|Before {he} went to sleep], """,
    "sleep": """[and {he} fell fast asleep|and soon {he} was asleep|and {he} dreamed of
        {loving}|and {he} slept well]""",
    "learned": """[From that day on, {hero} knew that|{hero} had learned that|And {hero} never forgot
        that|Now {hero} understood that]""",
    "comes by": """[Just then, an old {guide} came by.|An old {guide} had seen it all from the
        {spot}.|A wise {guide} stopped to look.|Then they heard a {guide} laugh.]""",
    "near": "[near|next to|behind|right by]",
}

# ---------------------------------------------------------------------------------------- the plots

PLOTS = {
    "lost": """<opening> [{His} favorite toy was {a color} {toy}. {His} {elder} had given it to {him}[
        for {his} birthday|].|{He} had {a look} {color} {toy} and took it everywhere[, even to
        bed|].|Of all {his} toys, {he} loved the {color} {toy} the most.|{His} {elder} had made
        {him} {a look} {color} {toy}, and it was {his} best toy.]

        <One day>, {hero} took the {toy} to the {place} to play with {friend_intro}. {He} put it down
        <near> the {spot}. They [played|ran|laughed] [for a long time|all {time}|and had so much fun].
        But [at home|when {he} got home|at dinner], the {color} {toy} was gone! [{hero} looked under
        {his} bed, but it was not there. |]{He} looked in the {container}, but it was empty. [{He}
        looked in the {container2}[ too|], but there was only [dust|an old sock|a spoon].|{He} asked
        {his} {elder}, but {his} {elder} had not seen it.] <sad>

        <ask>

        "I lost my {color} {toy}," said {hero}. "[I looked everywhere|It is not in the {container}|I
        want it back]."

        "[Where did you have it last|Where were you when you put it down]?" {friend} asked. {hero}
        [thought hard|closed {his} eyes and thought|tried to remember]. "[I think it was|We were] at
        the {place}," {he} said. "It was <near> the {spot2}. No, wait! It was the {spot}!"

        They [ran|hurried|raced] back to the {place}. [First they looked by the {spot2}, but they
        found nothing.|It was getting dark, but they did not stop.|They looked up and down, left and
        right.] Then {friend} pointed at the {spot}. There was the {color} {toy}[, under some
        leaves|, safe and dry|, just where {hero} had left it]! <happy> <thanks>

        [<together>|<night>{hero} [put|kept] the {color} {toy} close to {him}, <sleep>.|{hero} held
        the {toy} tight all the way home.] [From then on, {hero} always looked after {his} {color}
        {toy}.|{hero} never left the {toy} at the {place} again.|And {he} always put the {toy} back
        in the {container}.]""",
    "wish": """<opening> [Most of all|More than anything], {he} loved to eat {snacks}. [{He} ate
        {a snack} every day.|"I could eat {snacks} all day," {he} [often|always] said.|But {he} only
        got one {snack} a day.]

        <One day>, {he} was {at_place} and saw something [shine|glow|move] <near> the {spot}. It was
        {a color} {magic}. When {he} [picked it up|rubbed it|blew on it], a [tiny|soft|strange] voice
        said, "[I am a magic {magic}|Hello, {hero}|You found me]. I will give you one wish." {hero}
        did not think for long. "I wish for a [hundred|thousand] {snacks}!" {he} [cried|shouted|said].

        [Poof|Boom|Whoosh]! There were {snacks} everywhere. There were {snacks} in the {container} and
        {snacks} on the {spot}. [There were even {snacks} in {his} shoes.|The {container2} was full of
        {snacks} too.] {hero} ate {number} of them[ very fast|]. At first it was [fun|wonderful|like a
        dream], but [soon {his} tummy hurt|then {he} could not eat any more|after a while {he} felt
        sick]. And still more {snacks} came out of the {color} {magic}! <scared>

        {friend_Intro} came to see. "What happened?" [{friend_he} asked|asked {friend}]. "[There are
        too many {snacks}|I wished for too much]," said {hero}. "What can I do?" {friend} [smiled|
        laughed|thought for a moment]. "[There are many hungry people in the world|Let us share
        them|A big meal needs a lot of friends]," {friend_he} said. So they filled the {container} and
        gave {snacks} to everyone [who lived by|they met near] the {landmark}. [Old and young came
        to eat.|Even {his} {elder} took some.|All day they walked up and down.]

        [In the end|At last|By the evening] there was just one {snack} left. {hero} [broke|cut] it in
        two and gave half to {friend}. It was the best {snack} [in the world|of all|{he} had ever
        had]. [Then {he} put the {color} {magic} back <near> the {spot}.|{He} left the {color} {magic}
        {at_place}, for someone else to find.] [<learned> {snacks} taste better when you
        share.|<together>|"One {snack} a day is enough for me," said {hero}.]""",
    "broken": """<opening> On a shelf in the {room} stood {a color} {fragile}. It belonged to {his}
        {elder}[, who loved it very much|. "Please be careful with it," {his} {elder} always said|,
        and {hero} was not allowed to touch it].

        <One day>, {hero} was [playing|running|jumping] in the {room} with {his} {toy}. [{He} went
        round and round, faster and faster.|{He} forgot to be careful.|{He} did not look where {he}
        was going.] [Crash|Bang|Smash]! The {toy} hit the shelf, and the {color} {fragile} fell to the
        floor. It broke into {number} pieces. <scared>

        {hero} [picked up|gathered|swept up] the {number} pieces and hid them in the {container}. Then
        {he} [sat very still|went to {love}|ran to {his} room], but it was no fun. {He} could only
        think of the {fragile}.

        [Soon|After a while|That evening], {his} {elder} came into the {room}. "[Where is my {color}
        {fragile}|Have you seen my {fragile}, {hero}|Why is the shelf empty]?" [{hero} wanted to say
        that the wind did it, but {he} could not tell a lie.|{hero} looked at {his} feet. {He} wanted
        to run away, but {he} stayed.|At first {hero} said nothing, but {his} face turned red.] "[It
        was me|I broke it]," {he} said in a small voice. "The {toy} hit it. The pieces are in the
        {container}. I am [so|very] sorry."

        {His} {elder} [was quiet for a moment|gave {him} a hug|took {his} hand]. "I am sad about the
        {fragile}, but I am [glad|proud] that you told [me|] the truth," said {his} {elder}. "[Let us
        fix it|We can mend it] together." They [got some glue|took the glue from the {container2}] and
        put the {number} pieces together, one by one. [It took a long time.|The glue was very
        sticky.|"You have good hands," said {his} {elder}.]

        [In the end|When they were done|At last], the {color} {fragile} was back on its shelf in the
        {room}. It had [a few lines|some cracks] now, but [{hero} thought it was even more
        beautiful|{his} {elder} liked it even more|it was whole again]. [<learned> it is best to tell
        the truth.|{hero} never took {his} {toy} into the {room} again.|After that, {hero} only played
        with the {toy} outside, and then {he} {loved} until dinner.]""",
    "quarrel": """<opening> {His} best friend was {friend_intro}. [They did everything
        together.|{friend} lived <near> the {spot}.|{friend} was {trait2} and always ready to play.]

        <One day>, {hero} and {friend} were {at_place}. <near> the {spot} they [saw|found] {a look}
        {color} {toy}. "I saw it first!" [shouted|cried|said] {hero}. "No, it is mine!" [shouted|
        cried|said] {friend}. {hero} pulled on one side and {friend} pulled on the other. They pulled
        [and pulled|harder and harder]. But [then|all at once] the {toy} flew out of their hands and
        landed in [the mud|a dirty puddle|a heap of dirt]. [Splash|Plop]! It was not {color} any more.
        It was all [black|dirty|wet].

        [{hero} looked at {friend}, and {friend} looked at {hero}.|Nobody said a word.|Now nobody
        wanted it.] <sad> [{friend} was sad too.|{friend} [started to cry|hid {friend_his} face].]

        <comes by> "[Two friends and one {toy}|Why do you fight about {a toy}]?" said the {guide}.
        "[That is easy|I will tell you a secret]. [Let one friend play and the other one count to
        {number}|You can take turns. Just count to {number}]. Then change." [{hero} thought that it
        was a good idea.|{friend} wiped {friend_his} eyes.] "I am sorry, {friend}," said {hero}. "[You
        can go first|You may have it first]." "I am sorry too," said {friend}.

        They washed the {toy} [in the water|with a wet cloth|with soap] until it was {color} again.
        First {friend} played with it, and {hero} counted to {number}. Then {hero} played, and
        {friend} counted to {number}. [It was much more fun this way.|They laughed so much that they
        forgot to count.|The {guide} smiled and went away.]

        [When it was time to go home, the {toy} slept at {friend}'s house, and the next day it slept
        at {hero}'s.|<together> The {color} {toy} came too.|They made a little house for the {color}
        {toy} <near> the {spot}.] [<learned> a friend is better than {a toy}.|And {hero} and {friend}
        never [fought|quarreled] about the {color} {toy} again.]""",
    "wander": """<opening> [Behind the {home} was|Not far from the {home} was|{He} often played at] a
        [big|green|quiet] {place}. "Never go past the {spot}," {his} {elder} told {him}[ every
        day|many times|]. ["It is easy to get lost there." |]

        <One day>, {hero} saw {a color} {flyer}. It [danced|floated|turned] in the air[ like a tiny
        flag|]. "[Wait for me|Come back|How pretty you are]!" called {hero}. {He} ran after it, past
        the {spot2} and then past the {spot}. {He} [ran and ran|did not look back]. But the {color}
        {flyer} went up, up, up [into the sky|over the trees], and it was gone. {hero} looked around.
        [Nothing looked the same.|{He} did not know this part of the {place}.|{He} could not see the
        {spot} any more.]

        It got [dark|cold|late]. {hero} called for {his} {elder}, but only the wind answered. {He}
        looked for the path, but there was no path. <scared> <sad>

        "[Who is there|Who is crying]?" said a deep voice. It was an old {guide}[ with kind eyes|].
        "[I am lost|I want to go home]," said {hero}. "I went past the {spot} because of {a color}
        {flyer}." "[I see|Do not cry]," said the {guide}. "Where do you live?" "I live in {a homely}
        {home} <near> the {landmark}," said {hero}. "I know the {landmark}," said the {guide}.
        "[Follow me|Hold on to me|Come along]." They went [slowly|step by step] through the
        [dark|tall grass|trees]. [The {guide} sang a song so that {hero} was not afraid.|{hero} told
        the {guide} that {he} loved to {love}.|The moon lit the way.] At last {hero} saw the
        {spot}[, and then the {landmark}|].

        {His} {elder} was waiting by the door[ with a lamp|] and held {him} tight. "[I was so
        worried|Where have you been]!" said {his} {elder}. "I went past the {spot}," said {hero}. "I am
        sorry." [{He} thanked the {guide}.|The {guide} got a warm cup of soup.|They gave the {guide} a
        cake.] [From then on, when {hero} saw {a color} {flyer} at the {place}, {he} waved, but {he}
        stopped at the {spot}.|{hero} promised to stay close to the {home}, and {he} never went past
        the {spot} again.|<night>{hero} looked out at the {landmark}, happy to be home, <sleep>.]""",
    "rescue": """<opening> {He} never went out without {his} {color} {cloth}. [{His} {elder} had made
        it.|It was soft and warm.|It was a gift from {his} {elder}.]

        <One day>, {hero} went to the {place} with {his} {elder}. They heard a [tiny|sad|soft] sound
        <near> the {spot}. It was a little {creature}, {trouble}. {hero} wanted to help, but the
        {creature} was [too scared|afraid] and [tried to run away|began to cry|would not come near].
        "[Be gentle|Go slowly]," said {his} {elder}. "[It does not know you yet|It thinks that you are
        a giant]."

        {hero} sat down [on the ground|<near> the {spot}] and waited. {He} held out some {food} and
        said, "[Do not be afraid|I am your friend|I will not hurt you], little {creature}." [The
        {creature} looked at {him} for a long time.|First it took one step, and then one
        more.|Slowly, the {creature} came closer.] It ate the {food}[ out of {his} hand|]. Then {hero}
        [carefully|gently] set it free. The {creature} was [cold|tired|weak], so {he} wrapped it in
        the {color} {cloth}. "I will call you {pet}," said {hero}.

        [The next day|In the morning|A week later], {pet} was [well|strong] again and [went
        home|went back to its mother]. But the {color} {cloth} was gone too! {hero} looked in the
        {container}, but it was empty. {He} looked <near> the {spot2}, but it was not there. <sad>

        Then {he} heard a sound at the door. It was {pet}, the little {creature}! It [carried|held|
        pulled] the {color} {cloth}[ in its mouth|]. "[You brought it back|You found it], {pet}!" said
        {hero}. "[You are a good friend|Thank you, thank you]!" {hero} gave the {creature} more {food}.
        <happy>

        [After that, {pet} came every day when {hero} {loved}, and {hero} always had some {food}
        ready.|{hero} and {pet} met at the {place} every day.|From then on, {pet} slept in {hero}'s
        {home}, on the {color} {cloth}.] [<learned> when you help someone, you make a
        friend.|"{pet} helped me because I helped {pet}," {hero} told {his} {elder}.|And when it was
        cold, the {color} {cloth} kept both of them warm.]""",
    "birthday": """<opening> {His} best friend was {friend_intro}. [Tomorrow was {friend}'s birthday|
        Soon it was {friend}'s birthday], and {hero} wanted to give {friend_him} {a color} {toy}.

        {hero} wanted to buy it, so {he} looked for some money. {He} looked in the {container}, but it
        was empty. {He} looked in the {container2} and found [only one coin|a button|two coins], but
        {a toy} cost {number}. <sad> "[What can I do|I have no money], {elder}?" {he} asked. "[You
        can make a gift|The best gifts are made with love]," said {his} {elder}. So {hero} took [paper
        and paint|wood and paint|cloth and string] and started to [work|make {a toy}].

        Then there was a knock at the door. It was {friend}. "Do you want to {love} with me?" {friend_he}
        asked. {hero} hid the {toy} behind {his} back. "[Not today|I cannot come out]," {he} said.
        "[I am busy|I have to help my {elder}]." {friend} [walked away slowly|went home alone|looked
        down]. "{hero} does not like me any more," {friend_he} [thought|said to {friend_his} mom].
        "And tomorrow is my birthday."

        The next {time}, {friend} [got a letter|found a note]. It said, "Come to the {place}!" {friend}
        went, but nobody was there. [It was very quiet.|{friend_He} looked at the {spot}, but {friend_he}
        saw no one.] Then {hero} jumped out from behind the {spot}. "Surprise!" [{he} shouted|shouted
        everyone]. There was {a flavor} {cake} with {number} candles, and there was a {container} with
        a bow on it. {friend} looked in the {container}. It was {a color} {toy}!

        "[You made this|Is it for me]?" asked {friend}. "[I thought that you forgot me|I was so sad
        yesterday]." "I was busy with your {toy}," said {hero}. "I could never forget you, {friend}."
        [They ate the {flavor} {cake}, and {friend} got the biggest piece.|{friend} blew out all
        {number} candles.] [<together>|{friend} played with the {color} {toy} all day, and {hero}
        {loved}.|{friend} took the {color} {toy} to bed that night.] [It was the best birthday
        ever.|<learned> a gift made by hand is the best gift.|"You are the best gift, {hero}," said
        {friend}.]""",
    "afraid": """<opening> [{hero} was not afraid of anything, but {he} did not like the dark|But when
        the light went out, {hero} was afraid|There was only one thing {he} did not like, and that was
        the dark]. [So every|Every] night {he} [slept with|held] {his} {color} {toy}.

        One [{weather}|long|dark] night, {hero} woke up. There was a [big|tall|long] black shadow on
        the wall. It had [two long arms|a big head|sharp teeth]! "It is {a monster}!" thought {hero}.
        {He} hid under the blanket with the {color} {toy}. <scared> {He} wanted to shout, but no sound
        came out. [Creak, went the floor.|Outside, the wind went whoo, whoo.] At last {he} called,
        "{Elder}! {Elder}!"

        {His} {elder} came [at once|in] with a [candle|little light]. "[What is it|What is the
        matter], {hero}?" "There is {a monster} by the [door|window]!" [whispered|cried] {hero}. "[Let
        us look|We will go and see] together," said {his} {elder}. "[Take my hand|Hold my hand], and
        take your {toy} too." {hero} got up. {He} took one step, and one more. The light fell on the
        {monster}, but there was no {monster}. It was only {a shadow}! [It stood <near> the
        bed.|The moon had made it look big.] {hero} laughed, and {his} {elder} laughed too. "[Hello,
        Mister|Good night, silly] {shadow}," said {hero}.

        The next [week|day], {friend_intro} came to sleep in the {home} by the {landmark}. When the
        light went out, {friend} [sat up|grabbed {hero}'s arm]. "[What is that|Look at the wall]! Is
        it {a monster}?" {friend_he} [asked|whispered]. But this time {hero} was not afraid. "It is
        only the {shadow}," {he} said. "[I will show you|Come and see]. And you can hold my {color}
        {toy}." {friend} held the {toy} and looked. "[You are right|Oh], it is just {a shadow}!" said
        {friend}. "You are so brave, {hero}."

        [{hero} smiled in the dark.|{hero} felt very big.] [{friend} fell asleep with the {color}
        {toy}, and {hero} slept without it for the first time.|They put the {color} {toy} on the
        {shadow} and laughed until they fell asleep.|Soon both were asleep, with the {color} {toy}
        between them.] [<learned> things are not so scary when you look at them.|And {hero} was never
        afraid of the dark again.|In the morning they {loved} together.]""",
    "baking": """<opening> [One {weather} {time}, {he} wanted|Today {he} wanted|It was a {weather}
        {time}, and {hero} wanted] to bake {a flavor} {cake} for {his} {elder}. [It was a
        surprise.|{His} {elder} had been sick.|"{Elder} loves {flavor} {cake}," {he} said.]

        {hero} put on {a color} {cloth} so that {he} would stay clean. {He} took a [big|round] bowl
        and a [long|wooden] spoon. {He} needed some {ingredient}. {He} looked in the {container}, but
        it was empty. {He} looked in the {container2}, but there was only [a bit of string|one
        crumb|some old paper]. "[There is no {ingredient}|I cannot bake without {ingredient}]!" said
        {hero}. <sad>

        So {he} [walked|ran] to the {place}, where {friend_intro} lived <near> the {spot}. [Knock,
        knock!|{He} rang the bell.] "Hello, {friend}. [May I have|Do you have] some {ingredient}?"
        asked {hero}. "[I am baking|It is for] {a flavor} {cake}." "[I have a lot of|You can have my]
        {ingredient}," said {friend}, "but [may I help you|can I bake too|I want to come along]?"
        "[Of course|Yes, please]!" said {hero}.

        They mixed the {ingredient} with [everything else|the rest]. {hero} stirred {number} times to
        the left, and {friend} stirred {number} times to the right. But {friend} stirred too fast.
        [Splat|Plop]! There was [dough|batter] on {friend_his} nose and on the {color} {cloth}. [They
        looked at each other and laughed.|"Oops," said {friend}, and {hero} laughed.] Then the {cake}
        went into the oven. [They waited and waited.|"Do not open the door," said {hero}.] Soon the
        whole {home} smelled of {flavor}.

        "[What smells so good|What is this]?" asked {his} {elder} at the door. "{A flavor} {cake}!"
        said {hero}. "[{friend} gave me the {ingredient}|We made it for you]." {His} {elder} [took a
        bite|ate one piece and then one more]. "[It is the best {flavor} {cake} in the world|I feel
        much better now]." <happy> [{hero} gave the next piece to {friend}.|{friend} ate {number}
        pieces.] [{hero} washed the {color} {cloth} and filled the {container} with {ingredient} for
        the next time.|<learned> a {cake} tastes better when friends help.|<together>]""",
    "race": """<opening> {His} friend {friend_intro} was {trait2} and very fast. "Nobody is as fast as
        I am," {friend} [always|often] said.

        <One day>, there was a race at the {place}. They had to run from the {spot} to the {spot2}.
        The winner would get {a color} {prize}. {hero} [wanted to win|dreamed of] the {color} {prize},
        but {he} had [short|small] legs. "[You will never win|You are too slow], {hero}," said
        {friend}. "[I can try|I will do my best]," said {hero}. An old {guide} called, "Ready, set,
        go!"

        {friend} ran like the wind. {hero} ran as fast as {he} could, but {friend} was [far ahead|
        already a small dot]. [Everyone shouted and waved.|{hero} was hot and out of breath.] Then,
        just before the {spot2}, {friend} [looked back to laugh|waved to the crowd] and fell over [a
        root|a stone|{friend_his} own feet]. "Ouch! My [knee|foot]!" cried {friend}. {hero} saw the
        {spot2} and the {color} {prize}. {He} could win now! But {he} [stopped|did not run on].

        <ask_friend> "[I cannot walk|It hurts]," said {friend}. "[Go on|Run, {hero}]. You can win."
        "[I do not want to win like that|You are my friend]," said {hero}. "[Put your arm around
        me|Lean on me]." So they walked to the {spot2} together, step by step. [Everyone was
        quiet.|{friend} held {hero}'s hand.] They [got there|crossed the line] at the same time, and
        everyone [clapped|cheered].

        The {guide} held up the {color} {prize}. "[Who won|Who gets it]?" asked the {guide}. "{hero},"
        said {friend}. "{hero} has [the biggest heart|the kindest heart]. I am sorry that I laughed at
        you." [<happy>|{hero} turned red.] "[We both won|Let us share it], {friend}," said {hero}. So
        {hero} kept the {color} {prize} [one week|one day], and {friend} kept it the next. [<learned>
        being kind is better than being fast.|And {friend} never said that {hero} was slow
        again.|When {friend}'s leg was better, they {loved} together <near> the {spot2}.]""",
    "hungry": """<opening> [One {weather} {time}, {hero} was hungry. {He}|It was {time}, and {hero}|On
        a {weather} {time}, {hero}] wanted {a fruit}. {He} looked in the {container}, but it was
        empty.

        {hero} looked in the {container2} too, but there was only {a color} {toy}. {He} asked {his}
        {elder}, "[May I have {a fruit}|Where are the {fruits}], please?" "[I am sorry, {hero}. We
        ate the last {fruit} yesterday|There are no {fruits} left|The {container} is empty, my dear],"
        said {his} {elder}. "[But there is a {fruit} tree|Go and look for the {fruit} tree] at the
        {place}. It stands <near> the {spot}."

        So {hero} took the [empty|] {container} and went to the {place}. [{He} sang on the way.|{He}
        passed the {spot2} and went on.|The sky was {weather2}.] <near> the {spot} there was a tall
        tree, full of {fruits}. {hero} [jumped|stood on {his} toes|reached up high], but the {fruits}
        were too high. {He} [threw a stick|shook the tree|tried to climb], but not one {fruit} fell
        down. {His} tummy [growled|hurt|made a funny noise]. <sad>

        Then {friend_intro} came along. <ask> "I want {a fruit}, but I am too [small|short]," said
        {hero}. "I am small too," said {friend}. "But [you can stand on my back|I can stand on your
        back]. [Two small friends are as tall as a big one|Together we are tall]!" {hero} [was not
        sure, but {he} tried it|laughed]. [They went up, up, up.|They shook a little, but they did not
        fall.] Pop! They got one {fruit}. Pop! They got {number} more. <thanks>

        They sat down <near> the {spot} and ate. The {fruits} were [sweet|juicy|so good]. [{friend} got
        the biggest {fruit}.|{hero} gave {friend} the first bite.] Then they filled the {container}
        with {fruits} and [carried it home|took it to {his} {elder}]. [Now, when {hero} wanted {a
        fruit}, {he} looked in the {container}, and it was full.|"The {container} is not empty any
        more," said {hero}, and {his} {elder} made {a fruit} {cake}.|<night>{hero} thought of the tree
        at the {place}, <sleep>.] [<learned> two can do what one cannot.|And {he} always kept one
        {fruit} for {friend}.|]""",
    "seed": """<opening> {His} {elder} gave {him} a tiny {flower} seed. "[Take good care of it|Give it
        water every day|Be good to it], and something [beautiful|wonderful] will grow," said {his}
        {elder}.

        <One day>, {hero} made a hole in the ground <near> the {landmark} and put the seed in. {He} had
        {a color} {can}, and every day {he} filled the {color} {can} and gave the seed some water.
        {He} waited {number} days, but nothing happened. {He} looked [in the morning and in the
        evening|very closely], but the ground was empty. [{He} even sang to it, but it did not
        help.|"Grow, little seed!" {he} said, but it did not grow.] <sad>

        {friend_intro} came to {love} with {him}, but {hero} [did not want to|shook {his} head]. <ask>
        "[My seed is dead|My seed will not grow]," said {hero}. "I will dig it up and throw it away!"
        "[Wait|No, do not do that]!" said {friend}. "[A seed must sleep first|It is working under the
        ground, where you cannot see it|My grandma says that good things take time]. Wait {number2}
        more days, and I will wait with you." So {hero} put {his} [spade|stick] away.

        [It rained, and then the sun came out.|The sun was warm, and the nights were soft.|They took
        turns with the {color} {can}.] One {time2}, {hero} [ran outside|looked at the ground] and
        [shouted|cried], "{friend}, {friend}! Come [here|quickly]!" There was a tiny green leaf. It
        grew and grew. First it was as tall as {a toy}, and then it was as tall as {hero}. And at the
        top there was {a color2} {flower}! <happy>

        "[You were right, {friend}|I am glad that I waited]," said {hero}. {He} showed the {color2}
        {flower} to {his} {elder}. "[You took good care of it|You are a real gardener]," said {his}
        {elder}. [In the fall, the {flower} gave them {number} new seeds. {hero} gave half of them to
        {friend}.|{hero} gave {friend} the {color} {can}, because now {friend_he} had a seed
        too.|<together> The {flower} stood in the sun and watched.] [<learned> good things take
        time.|And {hero} never dug up a seed again.|Every year there was {a color2} {flower} <near> the
        {landmark}.]""",
    "newcomer": """<opening> {He} had {a look} {color} {toy}, but {he} had nobody to play with. [It is
        not easy to play alone with {a toy}.|{His} {elder} was always busy.|"I wish I had a friend,"
        {he} often said.]

        <One day>, a new family came to live <near> the {landmark}. {hero} saw [someone|a new face]
        sitting <near> the {spot} at the {place}, all alone. [It was {friend_intro}.|{His} {elder} said
        that it was {friend_intro}.] {hero} wanted to say hello, but {he} was [too shy|afraid to]. {He}
        hid behind the {spot2} and watched. {friend} [looked sad|drew in the sand|threw little
        stones].

        "[What if {friend} does not like me|I do not know what to say], {elder}?" asked {hero}. "[You
        do not need many words|Just share something that you love]," said {his} {elder}. So the next
        {time}, {hero} took the {color} {toy} to the {place}. {He} [walked slowly|took a deep breath]
        and held it out. "[Would you like to play with my {toy}|Do you want to try it]?" {he} asked.
        {friend} looked up. "[Yes, please|May I really]?" {friend_he} said[ in a soft voice|].

        They played with the {toy} [all {time}|for a long time]. {hero} forgot to be shy. But then
        {friend} dropped the {toy}, and it got a [scratch|hole|big dent]. {friend} [began to cry|turned
        pale]. "[Now you will not be my friend|I broke your {color} {toy}]!" {friend_he} said. {hero}
        looked at the {toy} and was sad, but only for a moment. "[It is only {a toy}|It still
        works]," {he} said. "[A friend is more important|I have one {toy}, but I had no friend until
        today]."

        {friend} [smiled|wiped {friend_his} eyes]. The next day {friend_he} came to {hero}'s {home} with
        {a color2} [ribbon|sticker|patch]. [Carefully, they|Together they] put it on the {color} {toy}.
        Now the {toy} was {color} and {color2}, and [it was better than before|it belonged to both of
        them]. [<together>|{hero} showed {friend} how to {love}, and they did it every day.|After
        that, they met <near> the {spot} every day.] [<learned> you make a friend when you share.|And
        {hero} never had to play alone again.|"I got my wish," {hero} told {his} {elder}.]""",
}

# -------------------------------------------------------------------------------------- the machine

# What a source text is read into: the alternatives, each a row of plain texts and inner choices.
Choice: TypeAlias = "tuple[tuple[str | Choice, ...], ...]"
Uniform = Callable[[], float]


class Facts(dict[str, str]):
    """What is true in one story. `Color` and `a color` are found by way of `color`."""

    def __missing__(self, key: str) -> str:
        if key[0].isupper():
            fact = self[key[0].lower() + key[1:]]
            value = fact[0].upper() + fact[1:]
        elif key.startswith("a "):
            fact = self[key[2:]]
            value = ("an " if fact[0] in "aeiou" else "a ") + fact
        else:
            raise KeyError(key)
        self[key] = value
        return value


def write_stories(n: int, seed: int) -> Iterator[str]:
    """Yield `n` stories in ASCII, paragraphs parted by a blank line, with no delimiter after them.

    Story i depends on `seed` (from 0, below 2**32) and i alone, so a longer run begins with the
    shorter one.
    """
    for index in range(n):
        uniform = Random(seed * 2**32 + index).random
        plot = _pick(_PLOTS, uniform)
        text = _chosen(plot, uniform).format_map(_facts(uniform))
        yield "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
