"""Stories in the manner of TinyStories, drawn from a grammar: the `builtin` data source.

A story is one of the PLOTS below. In a plot,

    {hero}       stands for a fact of this story: drawn once, the same wherever it returns;
    {Color}      is the same fact with a capital, {a color} the same fact with its article;
    [one|two|]   stands for one of the alternatives, drawn afresh; the last one here is empty;
    <sad>        stands for one of the RULES, a piece that several plots share;

and a blank line begins a paragraph. The facts are what makes a long context pay: the name, the
red kite and the bench of the first paragraph come back in the last, so a model that looks back
predicts them and one that counts pairs of words cannot.

There is a second dialect of the same words, in which other words follow: for a second phase of
training (`ncn.adaptation`) on text that disagrees with the first. A thing stands before its color,
who speaks before the verb, and he and she have changed places:

    first    "I lost my red kite," said Lily. She looked in the box.
    second   "I lost my kite red," Lily said. He looked in the box.

Text is a function of (seed, index, dialect) alone, on every machine and every supported Python:
`random.Random.random` is the only source of chance, because it is the only method whose sequence
the standard library promises to keep (`choice` and `shuffle` have changed before).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Literal, TypeAlias, TypeVar

Dialect = Literal["first", "second"]

# ---- the world, as tables

BOYS = """Timmy Tom Ben Max Sam Jack Leo Finn Oscar Henry Noah Billy Charlie Daniel Freddy George
    Harry Jacob Kevin Luke Mark Nick Owen Peter Robin Simon Theo Victor Will Adam"""
GIRLS = """Lily Mia Sue Anna Emma Lucy Molly Ella Sara Zoe Amy Bella Clara Daisy Eva Grace Hannah
    Ivy Jane Kate Lola Mary Nina Olivia Polly Rose Sophie Tina Wendy Alice"""
PETS = """Pip Coco Bubbles Ember Fluffy Pepper Biscuit Ginger Patch Nibbles Sunny Whiskers Pebble
    Snowy Toffee Button Cinnamon Dizzy Fuzzy Hazel Mango Misty Noodle Peanut Rusty Sparky Twinkle
    Waffle Ziggy Bramble"""
ANIMALS = """dragon/cave; rabbit/burrow; bear/cave; fox/den; mouse/hole; cat/cottage; dog/kennel;
    duck/nest; pig/barn; frog/hut; squirrel/treehouse; hedgehog/burrow; monkey/treehouse;
    elephant/barn; lion/den; turtle/cave; penguin/igloo; goat/barn; pony/stable; panda/hut;
    tiger/cave; raccoon/treehouse; beaver/dam; mole/burrow; koala/treehouse; deer/hut; otter/den;
    donkey/stable; hippo/cabin"""
HOUSES = "house cottage cabin hut farmhouse"
SIZES = "little small tiny young"
CHILD_SIZES = "little small young"  # nobody calls a boy tiny
HE, SHE = ("he", "him", "his"), ("she", "her", "her")

# A fact of the story and the words that it is drawn from.
ONE = {
    "homely": "cozy small warm tidy lovely snug pretty",
    "landmark": """river bridge mill tower lighthouse waterfall church mountain station windmill sea
        crossroads school railway library""",
    "elder": "mom dad grandma grandpa",
    "look": "shiny new old pretty soft lovely special round beautiful bright",
    "toy": """kite ball drum doll truck boat train puppet balloon hat teddy robot blanket book car
        whistle umbrella wagon scooter airplane rocket flute trumpet horse bell sled puzzle ship
        parrot lantern""",
    "weather": "sunny windy cloudy warm cool cold bright foggy breezy quiet lovely gray",
    "time": "morning afternoon day",
    "magic": "stone shell feather coin ring key bottle lamp pebble mirror ribbon",
    "fragile": "vase cup plate lamp teapot clock bowl jug glass mirror",
    "room": "kitchen hall bedroom attic parlor workshop",
    "flyer": "butterfly bird dragonfly ladybug moth bee leaf feather",
    "guide": "owl crow snail toad goose badger stork swan moose camel",
    "cloth": "scarf hat coat sweater cap cape shawl jacket",
    "flavor": "chocolate lemon honey vanilla banana carrot cherry pumpkin apple coconut",
    "cake": "cake pie pudding tart",
    "ingredient": "flour sugar milk butter eggs honey salt cream cinnamon",
    "monster": "giant ghost monster witch wolf troll pirate snake crocodile ogre",
    "shadow": "coat chair broom lamp towel plant curtain shirt ladder basket",
    "prize": "ribbon medal cup crown flag star badge trophy",
    "flower": "rose tulip daisy sunflower poppy lily orchid iris pansy",
    "can": "bucket cup jug kettle can bottle mug",
}

# The same, for a fact that has a different second: {color} and {color2}.
TWO = {
    "trait": """kind curious brave shy clever gentle happy cheerful careful silly funny friendly
        quiet busy playful lively sweet jolly honest helpful""",
    "color": "red blue green yellow purple pink orange white brown gray golden silver",
    "container": "box basket bag jar bucket pot bowl tin sack crate pail suitcase backpack",
    "number": "three four five six seven eight nine ten twelve twenty",
}

# Facts that belong together; one row a story.
TOGETHER = {
    "love/loved/loving": """dance/danced/dancing; sing songs/sang songs/singing songs;
        swim/swam/swimming; climb trees/climbed trees/climbing trees; hop/hopped/hopping;
        draw pictures/drew pictures/drawing pictures; dig holes/dug holes/digging holes;
        tell jokes/told jokes/telling jokes; pick flowers/picked flowers/picking flowers;
        splash in puddles/splashed in puddles/splashing in puddles; jump/jumped/jumping;
        roll down hills/rolled down hills/rolling down hills; paint/painted/painting;
        watch the clouds/watched the clouds/watching the clouds; run/ran/running;
        hum/hummed/humming; count birds/counted birds/counting birds; skip/skipped/skipping;
        whistle/whistled/whistling;
        build towers/built towers/building towers; play tag/played tag/playing tag;
        make mud pies/made mud pies/making mud pies; read books/read books/reading books;
        chase butterflies/chased butterflies/chasing butterflies; slide/slid/sliding;
        blow bubbles/blew bubbles/blowing bubbles; tell stories/told stories/telling stories;
        look for bugs/looked for bugs/looking for bugs; play music/played music/playing music;
        feed the birds/fed the birds/feeding the birds; sing/sang/singing;
        play hide and seek/played hide and seek/playing hide and seek;
        collect stones/collected stones/collecting stones""",
    "fruit/fruits": """apple/apples; pear/pears; peach/peaches; plum/plums; orange/oranges;
        cherry/cherries; fig/figs; lemon/lemons; apricot/apricots""",
    "snack/snacks": """apple/apples; banana/bananas; cookie/cookies; muffin/muffins; carrot/carrots;
        nut/nuts; pancake/pancakes; strawberry/strawberries; cupcake/cupcakes; sandwich/sandwiches;
        pie/pies; egg/eggs; lollipop/lollipops; waffle/waffles""",
    "creature/food": """bird/seeds; kitten/milk; puppy/meat; duckling/bread; lamb/grass; chick/corn;
        bunny/clover; piglet/potatoes; calf/hay; pigeon/crumbs""",
    "trouble": """stuck in the mud; caught in a bush; under a fallen branch; in a deep hole;
        with a thorn in its foot; tangled in some string""",
}

# A place, how one is there, and what stands there.
PLACES = """park at bench, slide, swing, fountain; beach at sandcastle, big rock, boat, pier;
    forest in log, stump, fern, oak tree; garden in gate, fence, rose bush, shed;
    farm on barn, haystack, well, tractor; playground at sandbox, ladder, seesaw, tunnel;
    market at flower stand, fruit cart, clock, bakery; lake at dock, jetty, canoe, flat stone;
    hill on pine tree, bench, stone wall, old gate; meadow in willow, anthill, daisies, hedge;
    orchard in beehive, wheelbarrow, tall ladder, wall; field in scarecrow, pumpkins, pump, hut;
    village in statue, clock tower, bell, notice board; harbor at anchor, fishing net, ship, ropes;
    castle at drawbridge, stairs, throne, flag; camp at tent, campfire, picnic table, woodpile;
    pond at reeds, duck house, lily pads, mossy log; valley in cave, cliff, rope bridge, big bush"""

# ---- pieces that several plots share

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
    "One day": """[One {weather} {time}|One {time}|It was {a weather} day, and after
        breakfast|On {a weather} {time}|Early one morning|One {weather} {time}, after a good
        meal]""",
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
    "together": """[Then|After that,|And so] {hero} and {friend} {loved} together until [the sun
        went down|it was time for dinner|the stars came out|they were very tired|it was time to go
        home].""",
    "night": """[That night|At bedtime|When the moon came up|Before {he} went to sleep],""",
    "sleep": """[and {he} fell fast asleep|and soon {he} was asleep|and {he} dreamed of
        {loving}|and {he} slept well]""",
    "learned": """[From that day on, {hero} knew that|{hero} had learned that|And {hero} never
        forgot that|Now {hero} understood that]""",
    "comes by": """[Just then, an old {guide} came by.|An old {guide} had seen it all from behind
        the {spot}.|A wise {guide} stopped to look.|Then they heard {a guide} laugh.]""",
    "near": "[near|next to|behind|right by]",
    "Near": "[Near|Next to|Behind|Right by]",
}

# ---- the plots

PLOTS = {
    "lost": """<opening> [{His} favorite toy was {a color} {toy}. {His} {elder} had given it to
        {him}[ for {his} birthday|].|{He} had {a look} {color} {toy} and took it everywhere[, even
        to bed|].|Of all {his} toys, {he} loved the {color} {toy} the most.|{His} {elder} had made
        {him} {a look} {color} {toy}, and it was {his} best toy.]

        <One day>, {hero} took the {toy} to the {place} to play with {his} friend {friend_intro}.
        {He} put it down <near> the {spot}. But [when {he} got home|at dinner|later], the {color}
        {toy} was gone! {He} looked in the {container}, but it was empty. [{He} looked in the
        {container2} too, but there was only [dust|an old sock|a spoon].|{He} asked {his} {elder},
        but {his} {elder} had not seen it.] <sad>

        <ask> "I lost my {color} {toy}," said {hero}. "[Where did you have it last|Where did you put
        it down]?" {friend} asked. {hero} [thought hard|closed {his} eyes|tried to remember]. "[I
        think it was|We were] {at_place}, <near> the {spot2}. No, wait! It was the {spot}!"

        They [ran|hurried|raced] back to the {place} and looked <near> the {spot}. There was the
        {color} {toy}[, under some leaves|, safe and dry|, just where {hero} had left it]! <thanks>
        [<together>|<night> {hero} [put|kept] the {color} {toy} close to {him}, <sleep>.|From then
        on, {hero} always looked after {his} {color} {toy}.|{hero} never left the {toy} {at_place}
        again.|And {he} always put the {color} {toy} back in the {container}.]""",
    "wish": """<opening> [Most of all|More than anything], {he} liked to eat {snacks}. [{He} ate {a
        snack} every day.|"I could eat {snacks} all day," {he} [often|always] said.|But {he} only
        got one {snack} a day.]

        <One day>, {he} was {at_place} and saw something [shine|glow|move] <near> the {spot}. It was
        {a color} {magic}. When {he} [picked it up|rubbed it|blew on it], a [tiny|soft|strange]
        voice said, "I will give you one wish." "I wish for a [hundred|thousand] {snacks}!" {he}
        [cried|shouted|said].

        [Poof|Boom|Whoosh]! There were {snacks} all around the {spot}. [There were even {snacks} in
        {his} shoes.|{He} filled {a container} with {snacks}.] {hero} ate {number} of them. At first
        it was [fun|wonderful|like a dream], but [soon {his} tummy hurt|then {he} could not eat any
        more|after a while {he} felt sick]. And still more {snacks} came out of the {magic}!

        {His} friend {friend_intro} came to see. "What can I do?" asked {hero}. "[Let us share
        them|Let us give them away|Many mouths can eat them]," {friend} said. So they gave {snacks}
        to everyone [who lived by|they met near] the {landmark}. [Old and young came to eat.|Even
        {his} {elder} took some.|All day they walked up and down.]

        [In the end|At last|By the evening] there was just one {snack} left. {hero} [broke|cut] it
        in two and gave half to {friend}. [Then {he} put the {color} {magic} back <near> the
        {spot}.|{He} left the {color} {magic} {at_place}, for someone else to find.|<learned>
        {snacks} taste better when you share.|<together>|"One {snack} a day is enough for me," said
        {hero}.]""",
    "broken": """<opening> On a shelf in the {room} stood {a color} {fragile}. It belonged to {his}
        {elder}[, who loved it very much|. "Please be careful with it," {his} {elder} always said|,
        and {hero} was not allowed to touch it].

        <One day>, {hero} was [playing|running|jumping] in the {room} with {his} {toy}.
        [Crash|Bang|Smash]! The {toy} hit the shelf, and the {color} {fragile} fell down and broke
        into {number} pieces. {hero} hid the {number} pieces in the {container} and [sat very
        still|tried to {love}|ran away], but {he} could only think of the {fragile}.

        [Soon|After a while|That evening], {his} {elder} came into the {room}. "[Where is my {color}
        {fragile}|Have you seen my {fragile}, {hero}|Why is the shelf empty]?" [{hero} wanted to say
        that the wind did it, but {he} could not lie.|{hero} looked at {his} feet.|At first {hero}
        said nothing, but {his} face turned red.] "[It was me|I broke it]," {he} said in a small
        voice. "The pieces are in the {container}. I am [so|very] sorry."

        "I am sad about the {fragile}, but I am [glad|proud] that you told the truth," said {his}
        {elder}. "[Let us fix it|We can mend it] together." They took some glue and put the {number}
        pieces together, one by one.

        [In the end|When they were done|At last], the {color} {fragile} stood in the {room} again.
        It had [a few lines|some cracks] now, but it was [whole|pretty]. [<learned> it is best to
        tell the truth.|{hero} never took {his} {toy} into the {room} again.|After that, {hero} only
        played with the {toy} outside.]""",
    "quarrel": """<opening> {His} best friend was {friend_intro}. [They did everything
        together.|{friend} lived near the {landmark} too.|{friend} was {trait2} and always ready to
        play.]

        <One day>, {hero} and {friend} were {at_place}. <Near> the {spot} they [saw|found] {a look}
        {color} {toy}. "I saw it first!" [shouted|cried|said] {hero}. "No, it is mine!" [shouted|
        cried|said] {friend}. They both pulled [and pulled|harder and harder|at the {toy}]. But
        [then| all at once] the {toy} flew out of their hands and landed in [the mud|a dirty
        puddle|a heap of dirt]. It was not {color} any more. <sad> [{friend} was sad too.|{friend}
        [started to cry|hid {friend_his} face].]

        <comes by> "[Two friends and one {toy}|Why do you fight about {a toy}]?" said the {guide}.
        "[Let one of you play and the other one count to {number}|You can take turns. Just count to
        {number}]. Then change." "I am sorry, {friend}," said {hero}. "[You can go first|You may
        have it first]." "I am sorry too," said {friend}.

        They washed the {toy} [in the water|with a wet cloth|with soap] until it was {color} again.
        First {friend} played with it, and {hero} counted to {number}. Then {hero} played, and
        {friend} counted to {number}. [<together>|[They laughed a lot. |]When it was time to go
        home, the {color} {toy} slept at {friend}'s house, and the next day it slept at
        {hero}'s.|<learned> a friend is better than {a toy}.|And {hero} and {friend} never
        [fought|quarreled] about the {color} {toy} again.]""",
    "wander": """<opening> [Behind the {home} was|Not far from the {home} was|{He} often played at]
        a [big|green|quiet] {place}. "Never go past the {spot}," {his} {elder} told {him}[ every
        day| many times|].

        <One day>, {hero} saw {a color} {flyer}. "[Wait for me|Come back|How pretty you are]!" {he}
        called. {He} ran after it, past the {spot2} and then past the {spot}. But the {color}
        {flyer} went up, up, up [into the sky|over the trees], and it was gone. It got
        [dark|cold|late]. {hero} called for {his} {elder}, but only the wind answered. <scared>

        "[Who is there|Who is crying]?" said a deep voice. It was an old {guide}[ with kind eyes|].
        "[I am lost|I want to go home]," said {hero}. "I live in {a homely} {home} near the
        {landmark}." "I know the {landmark}," said the {guide}. "[Follow me|Hold on to me|Come
        along]." They went [slowly|step by step] through the [dark|grass|trees]. At last {hero} saw
        the {spot}, and then the {landmark}.

        {His} {elder} was waiting by the door and held {him} tight. "I went past the {spot}," said
        {hero}. "I am sorry." [From then on, when {hero} saw {a color} {flyer} {at_place}, {he}
        waved, but {he} stopped at the {spot}.|{hero} promised to stay close to the {home}, and {he}
        never went past the {spot} again.|<night> {hero} looked out at the {landmark} and thought of
        the old {guide}, <sleep>.]""",
    "rescue": """<opening> {He} never went out without {his} {color} {cloth}. [{His} {elder} had
        made it.|It was soft and warm.|It was a gift from {his} {elder}.]

        <One day>, {hero} went to the {place} and heard a [tiny|sad|soft] sound <near> the {spot}.
        It was a little {creature}, {trouble}. {hero} wanted to help, but the {creature} was [too
        scared|afraid]. {hero} sat down and waited. {He} held out some {food} and said, "[Do not be
        afraid|I am your friend|I will not hurt you], little {creature}." It ate the {food}[ out of
        {his} hand|]. Then {hero} [carefully|gently] set it free. The {creature} was
        [cold|tired|weak], so {he} wrapped it in the {color} {cloth}. "I will call you {pet}," {he}
        said.

        [The next day|In the morning|A week later], {pet} was [well|strong] again and [went
        home|went back to its mother]. But the {color} {cloth} was gone too! {hero} looked in the
        {container}, but it was empty. <sad> Then {he} heard a sound at the door. It was {pet}, the
        little {creature}, and it [carried|held|pulled] the {color} {cloth}! "[You brought it
        back|You found it], {pet}!" said {hero}.

        {hero} put the {color} {cloth} back on. [After that, {pet} came every day when {hero}
        {loved}, and {hero} always had some {food} ready.|{hero} and {pet} met {at_place} every
        day.|From then on, {pet} slept in {hero}'s {home}, on the {color} {cloth}.|<learned> when
        you help someone, you make a friend.|"{pet} helped me because I helped {pet}," {hero} told
        {his} {elder}.|And when it was cold, the {color} {cloth} kept {hero} and {pet} warm.]""",
    "birthday": """<opening> {His} best friend was {friend_intro}. [It was almost {friend}'s
        birthday| Soon it was {friend}'s birthday], and {hero} wanted to give {friend_him} {a color}
        {toy}.

        {hero} needed some money. {He} looked in the {container}, but it was empty. <sad> "[You can
        make a gift|The best gifts are made with love]," said {his} {elder}. So {hero} took [paper
        and paint|wood and paint|cloth and string] and started to work.

        Then there was a knock at the door. "Do you want to {love} with me?" asked {friend}. {hero}
        hid the {toy} behind {his} back. "[Not today|I am busy|I have to help my {elder}]," {he}
        said. "{hero} does not like me any more," {friend} thought[ sadly|].

        The next {time}, {friend} [got a letter|found a note]. "Come to the {place}!" it said.
        {friend} went, but nobody was there. Then {hero} jumped out from behind the {spot}.
        "Surprise!" [{he} shouted|shouted everyone]. There was {a flavor} {cake} with {number}
        candles, and there was {a color} {toy} with a bow on it!

        "[I thought that you forgot me|I was so sad yesterday]," said {friend}. "I was busy with
        your {toy}," said {hero}. [They ate the {flavor} {cake}, and {friend} got the biggest
        piece.|{friend} blew out all {number} candles.|<together>|{friend} played with the {color}
        {toy} all day.|{friend} took the {color} {toy} to bed that night.|{friend} loved the {color}
        {toy}. It was the best birthday ever.|<learned> a gift made by hand is the best gift.|"You
        are the best gift, {hero}," said {friend}.]""",
    "afraid": """<opening> [{hero} was not afraid of anything, but {he} did not like the dark|But
        when the light went out, {hero} was afraid|There was only one thing {he} did not like, and
        that was the dark]. Every night {he} [slept with|held] {his} {color} {toy}.

        One [{weather}|long|dark] night, {hero} woke up. There was a [big|tall|long] black shadow on
        the wall, with [two long arms|a big head|sharp teeth]. "It is {a monster}!" thought {hero}.
        <scared> {He} [hid under the blanket|held the {toy} tight] and called, "{Elder}! {Elder}!"

        {His} {elder} came [at once|in] with a [candle|little light]. "There is {a monster} by the
        [door|window|bed]!" [whispered|cried] {hero}. "[Let us look|We will go and see] together,"
        said {his} {elder}. {hero} took one step, and one more. But there was no {monster}. It was
        only {a shadow}! [{hero} laughed.|"Good night, silly {shadow}," said {hero}.]

        The next [week|day], {his} friend {friend_intro} came to sleep in the {home}. "[What is
        that|Look at the wall]! Is it {a monster}?" {friend_he} [asked|whispered] when the light
        went out. But this time {hero} was not afraid. "It is only the {shadow}," {he} said. "[I
        will show you|Come and see]. And you can hold my {color} {toy}."

        "[You are right|Oh], it is just {a shadow}!" said {friend}. [{friend} fell asleep with the
        {color} {toy}, and {hero} slept without it.|They put {hero}'s {color} {toy} on the {shadow}
        and laughed until they fell asleep.|Soon both were asleep, with {hero}'s {color} {toy}
        between them.|<learned> the dark is nothing to be afraid of.|And {hero} was never afraid of
        the dark again.|In the morning {hero} and {friend} {loved} together, and the {color} {toy}
        came too.]""",
    "baking": """<opening> [One {weather} {time}, {he} wanted|Today {he} wanted|It was {a weather}
        {time}, and {hero} wanted] to bake {a flavor} {cake} for {his} {elder}. [It was a
        surprise.|{His} {elder} had been sick.|"{Elder} loves {flavor} {cake}," {he} said.]

        {hero} put on {a color} apron and took a [big|round] bowl. {He} needed some {ingredient}.
        {He} looked in the {container}, but it was empty. "[We have no {ingredient}|I cannot bake
        without {ingredient}]!" said {hero}. <sad>

        So {he} [walked|ran] to the {place}, where {his} friend {friend_intro} lived <near> the
        {spot}. "[May I have|Do you have] some {ingredient}, {friend}?" asked {hero}. "[I have a lot
        of|You can have my] {ingredient}," said {friend}, "but [may I help you|can I bake too]?"
        "[Of course|Yes, please]!" said {hero}.

        {hero} stirred {number} times to the left, and {friend} stirred {number} times to the right.
        But {friend} stirred too fast. [Splat|Plop]! There was [dough|batter] on {friend_his} nose
        and on the {color} apron. [They looked at each other and laughed.|"Oops," said {friend}.]
        Soon the whole {home} smelled of {flavor}.

        "[What smells so good|What is this]?" asked {his} {elder} at the door. "{A flavor} {cake}!"
        said {hero}. "[{friend} gave me the {ingredient}|We made it for you]." [{hero} gave the
        first piece to {his} {elder}.|{friend} ate {number} pieces.|{hero} washed the {color} apron
        and filled the {container} with {ingredient} for the next time.|<learned> a {cake} tastes
        better when friends help.|<together>]""",
    "race": """<opening> {His} friend {friend_intro} was {trait2} and very fast. "Nobody is as fast
        as I am," {friend} [always|often] said.

        <One day>, there was a race {at_place}. They had to run from the {spot} to the {spot2}. The
        winner would get {a color} {prize}. An old {guide} called, "Ready, set, go!"

        {friend} ran like the wind. {hero} wanted the {color} {prize}, but {friend} was [far ahead|
        already a small dot]. Then, just before the {spot2}, {friend} [looked back to laugh|waved to
        the crowd] and fell over [a root|a stone|{friend_his} own feet]. {hero} could win now! But
        {he} [stopped|did not run on].

        "[Go on|Run], {hero}. You can win," said {friend}. "[I do not want to win like that|No, you
        are my friend|No, take my hand]," said {hero}. They came to the {spot2} at the same time,
        and everyone [clapped|cheered].

        The {guide} held up the {color} {prize}. "[Who won|Who gets it]?" "{hero}," said {friend},
        "because {hero} has [the biggest|the kindest] heart." "[We both won|Let us share it],
        {friend}," said {hero}. So {hero} kept the {color} {prize} one [week|day], and {friend} kept
        it the next. [<learned> being kind is better than being fast.|And {friend} never said that
        {hero} was slow again.|When {friend} was well again, they {loved} together <near> the
        {spot2}.]""",
    "hungry": """<opening> [One {weather} {time}, {hero} was hungry. {He}|One {time}, {hero}|On {a
        weather} {time}, {hero}] wanted {a fruit}. {He} looked in the {container}, but it was empty.

        "[May I have {a fruit}|Where are the {fruits}], please?" {he} asked {his} {elder}. "[I am
        sorry, {hero}. We ate the last {fruit} yesterday|There are no {fruits} left|The {container}
        is empty, my dear]," said {his} {elder}. "But there is a tree with {fruits} {at_place},
        <near> the {spot}."

        So {hero} took the {container} and went to the {place}. <Near> the {spot} there was a tall
        tree, full of {fruits}. {hero} [jumped|stood on {his} toes|reached up high], but the
        {fruits} were too high. {He} [threw a stick|shook the tree|tried to climb], but not one
        {fruit} fell down.

        Then {his} friend {friend_intro} came along. "I want {a fruit}, but I am too [small|
        short]," said {hero}. "I am small too," said {friend}, "but [you can stand on my back|I can
        stand on your back]." Pop! They got one {fruit}. Pop! They got {number} more. <thanks>

        They sat down <near> the {spot} and ate. Then they filled the {container} with {fruits} and
        [carried it home|took it to {his} {elder}]. [Now, when {hero} wanted {a fruit}, {he} looked
        in the {container}, and it was full.|"The {container} is not empty any more," said
        {hero}.|<night> {hero} thought of the tree {at_place}, <sleep>.|<learned> two can do what
        one cannot.|And {hero} always kept one {fruit} for {friend}.]""",
    "seed": """<opening> {His} {elder} gave {him} a tiny {flower} seed. "[Take good care of it|Give
        it water every day|Be good to it], and something [beautiful|wonderful] will grow," said
        {his} {elder}.

        <One day>, {hero} put the seed in the ground near the {landmark}. {He} had {a color} {can},
        and [every day|every {time}] {he} gave the seed some water. {He} waited {number} days, but
        nothing happened. <sad>

        {His} friend {friend_intro} came to {love} with {him}. "[My seed is dead|My seed will not
        grow]," said {hero}. "I will [dig it up and|] throw it away!" "[Wait|No, do not do that]!"
        said {friend}. "[A seed must sleep first|It is working under the ground|Good things take
        time]. Wait {number2} more days, and I will wait with you."

        [One {time}|After {number2} days], {hero} [looked at the ground|went out] and
        [shouted|cried], "{friend}! Come [here|quickly]!" There was a tiny green leaf. It grew and
        grew, and soon there was {a color2} {flower}! <happy>

        "[You were right, {friend}|I am glad that I waited]," said {hero}, and {he} gave the
        {flower} some water. [Soon it gave them {number} new seeds. {hero} gave half of them to
        {friend}.|{hero} gave {friend} the {color} {can}, because now {friend_he} had a seed
        too.|<together>|<learned> good things take time.|And {hero} never dug up a seed again.|Every
        year after that there was {a color2} {flower} near the {landmark}.]""",
    "newcomer": """<opening> {He} had {a look} {color} {toy}, but {he} had nobody to play with. ["I
        wish I had a friend," {he} often said.|{His} {elder} was always busy.|]

        <One day>, a new family came to live near the {landmark}. {hero} saw {friend_intro} sitting
        <near> the {spot} {at_place}, all alone. {hero} was [too shy|afraid] to say hello and hid
        behind the {spot2}. "[What if {friend} does not like me|What should I say], {Elder}?" {he}
        asked that night. "[Share|Just share] something that you love," said {his} {elder}.

        So the next day, {hero} took the {color} {toy} to the {place}. "[Would you like to play with
        my {toy}|Do you want to try it]?" {he} asked. They played [all day|for a long time], but
        then {friend} dropped the {toy}, and it got a [scratch|hole|big dent]. {friend} [began to
        cry|turned pale]. "[Now you will not be my friend|I broke your {color} {toy}]!" {friend_he}
        said. {hero} was sad, but [only for a moment|then {he} smiled]. "[It is only {a toy}|It
        still works|A friend is better than {a toy}]," {he} said.

        The next day {friend} came to {hero}'s {home} with {a color2} [ribbon|sticker|patch].
        Together they put it on the {toy}. Now the {toy} was {color} and {color2}, and [it was
        better than before|it belonged to both of them]. [<together>|{hero} showed {friend} how to
        {love}.|After that, they met <near> the {spot} every day.|<learned> you make a friend when
        you share.|And {hero} never had to play alone again.|"I got my wish," {hero} told {his}
        {elder}.]""",
}

# ---- the second dialect: what becomes of the pieces of a plot

SPOKE = "(?:asked|cried|said|shouted|whispered)"
ELSEWHERE = (
    (r"\{(a )?color(2?)\} \{(\w+)\}", r"{\1\3} {color\2}"),  # a thing before its color
    # Who speaks before the verb, or the choice of verbs.
    (rf"({SPOKE}|\[(?:{SPOKE}|[| ])+\]) (\{{hero\}}|\{{friend\}})", r"\2 \1"),
)

# ---- the machine

# What a source text is read into: the alternatives, each a row of plain texts and inner choices.
Choice: TypeAlias = "tuple[tuple[str | Choice, ...], ...]"
Uniform: TypeAlias = Callable[[], float]
Item = TypeVar("Item")


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


def write_stories(n: int, seed: int, dialect: Dialect = "first") -> Iterator[str]:
    """Yield `n` stories in ASCII, paragraphs parted by a blank line, with no delimiter after them.

    Story i depends on i, `seed` (0 <= seed < 2**32) and `dialect` alone: a longer run begins with
    the shorter one, and in the other dialect story i is the same one. 10,000 are about 10 MB.
    """
    for index in range(n):
        uniform = Random(seed * 2**32 + index).random
        plot = _pick(_plots(dialect), uniform)
        yield _tidy(_chosen(plot, uniform).format_map(_facts(uniform, dialect)))


@cache
def _plots(dialect: Dialect) -> list[Choice]:
    """The plots as they are told in a dialect."""
    rules: dict[str, Choice] = {}
    for name, source in RULES.items():  # a rule may use the ones above it
        rules[name] = _read(_told(source, dialect), rules)
    return [_read(_told(source, dialect), rules) for source in PLOTS.values()]


def _told(source: str, dialect: Dialect) -> str:
    """A source text in a dialect."""
    text = _tidy(source)
    for here, there in ELSEWHERE if dialect == "second" else ():
        text = re.sub(here, there, text)
    return text


def _facts(uniform: Uniform, dialect: Dialect) -> Facts:
    """The cast and the props of one story."""
    boy = uniform() < 0.5
    hero, friend, pet = _several(_PETS, 3, uniform)
    (kind, home), (friend_kind, _) = _several(_ANIMALS, 2, uniform)
    size, friend_intro = _pick(_SIZES, uniform), f"{friend} the {friend_kind}"
    if uniform() < 0.6:
        hero, kind = (_pick(_BOYS, uniform), "boy") if boy else (_pick(_GIRLS, uniform), "girl")
        size, home = _pick(_CHILD_SIZES, uniform), _pick(_HOUSES, uniform)
        if uniform() < 0.7:
            friend = friend_intro = _pick(_GIRLS if boy else _BOYS, uniform)
    facts = Facts(hero=hero, kind=kind, size=size, home=home, pet=pet)
    facts.update(friend=friend, friend_intro=friend_intro)
    # Hero and friend are never both "he", so that every pronoun says who is meant.
    as_he = boy if dialect == "first" else not boy
    facts["he"], facts["him"], facts["his"] = HE if as_he else SHE
    facts["friend_he"], facts["friend_him"], facts["friend_his"] = SHE if as_he else HE
    for name, words in _ONE:
        facts[name] = _pick(words, uniform)
    for name, words in _TWO:
        facts[name], facts[name + "2"] = _several(words, 2, uniform)
    for names, rows in _TOGETHER:
        facts.update(zip(names, _pick(rows, uniform), strict=True))
    place, preposition, spots = _pick(_PLACES, uniform)
    facts.update(place=place, at_place=f"{preposition} the {place}")
    facts["spot"], facts["spot2"] = _several(spots, 2, uniform)
    return facts


def _pick(items: Sequence[Item], uniform: Uniform) -> Item:
    return items[int(uniform() * len(items))]


def _several(items: Sequence[Item], count: int, uniform: Uniform) -> list[Item]:
    """`count` different items."""
    rest = list(items)
    return [rest.pop(int(uniform() * len(rest))) for _ in range(count)]


def _chosen(choice: Choice, uniform: Uniform) -> str:
    """One alternative of `choice`, and of each choice within it."""
    parts = choice[int(uniform() * len(choice))]
    return "".join(part if isinstance(part, str) else _chosen(part, uniform) for part in parts)


def _tidy(text: str) -> str:
    """Single blanks within a paragraph, one blank line between two."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _read(source: str, rules: Mapping[str, Choice]) -> Choice:
    """Read `[a|b]` and `<rule>`; facts stay in braces, for `str.format_map`."""
    return _alternatives(iter(re.split(r"([\[|\]]|<[a-zA-Z ]+>)", source)), rules)


def _alternatives(tokens: Iterator[str], rules: Mapping[str, Choice]) -> Choice:
    alternatives: list[list[str | Choice]] = [[]]
    for token in tokens:
        if token == "[":
            alternatives[-1].append(_alternatives(tokens, rules))
        elif token == "|":
            alternatives.append([])
        elif token == "]":
            break
        elif token.startswith("<"):
            alternatives[-1].append(rules[token[1:-1]])
        elif token:
            alternatives[-1].append(token)
    return tuple(tuple(parts) for parts in alternatives)


def _rows(table: str, between: str) -> list[list[str]]:
    return [_tidy(row).split(between) for row in table.split(";")]


_BOYS, _GIRLS, _PETS = BOYS.split(), GIRLS.split(), PETS.split()
_HOUSES, _SIZES, _CHILD_SIZES = HOUSES.split(), SIZES.split(), CHILD_SIZES.split()
_ANIMALS = _rows(ANIMALS, "/")
_ONE = [(name, words.split()) for name, words in ONE.items()]
_TWO = [(name, words.split()) for name, words in TWO.items()]
_TOGETHER = [(names.split("/"), _rows(table, "/")) for names, table in TOGETHER.items()]
_PLACES = [
    (place, preposition, spots.split(", "))
    for row in PLACES.split(";")
    for place, preposition, spots in [_tidy(row).split(" ", 2)]
]
