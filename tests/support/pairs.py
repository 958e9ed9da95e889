"""Questions in Chinese, each with the paragraph in English that answers it."""

PAIRS = [
    ("怎样重置忘记的密码？", "To reset a forgotten password, open the account page and follow the link sent by mail."),
    ("光合作用需要什么？", "Plants turn carbon dioxide and water into sugar with the energy of sunlight."),
    ("谁画了蒙娜丽莎？", "The Mona Lisa was painted by Leonardo da Vinci at the beginning of the sixteenth century."),
    (
        "怎么煮米饭？",
        "Rinse the rice, add one and a half cups of water for each cup, and simmer it for fifteen minutes.",
    ),
    (
        "长城有多长？",
        "The Great Wall of China, with all of its branches, is more than twenty thousand kilometres long.",
    ),
    (
        "咖啡因对睡眠有什么影响？",
        "Caffeine in the afternoon delays sleep and makes it lighter, for it blocks adenosine.",
    ),
    ("如何更换自行车轮胎？", "Lever the bicycle tyre off the rim, pull out the tube, put in a new one and pump it up."),
    ("地震是怎么发生的？", "Earthquakes happen when plates of the crust that were stuck suddenly slip along a fault."),
    ("商品可以在多少天内退货？", "Goods can be returned within thirty days of delivery if they are unused."),
    ("月球为什么有不同的形状？", "The phases of the moon come from the changing part of its lit side that we can see."),
    ("谁发明了电话？", "Alexander Graham Bell received the patent for the telephone in 1876."),
    ("蜜蜂怎样酿造蜂蜜？", "Bees bring nectar to the hive, pass it on from mouth to mouth and dry it into honey."),
    (
        "疫苗如何起作用？",
        "A vaccine shows the immune system a harmless piece of a germ, so that it is prepared for the real one.",
    ),
    ("什么是通货膨胀？", "Inflation is a general rise of prices: the same money buys less than a year before."),
    ("世界上最高的山是哪一座？", "Mount Everest, 8,849 metres above the sea, is the highest mountain on Earth."),
    (
        "怎样防止手机电池老化？",
        "A phone battery lasts longer if it is kept cool and is not charged to the full all the time.",
    ),
    ("企鹅住在哪里？", "Penguins live on the coasts of the southern hemisphere, most of them in Antarctica."),
    ("第二次世界大战何时结束？", "The Second World War ended in 1945 with the surrender of Germany and then of Japan."),
    (
        "如何在数据库中创建索引？",
        "CREATE INDEX builds an index on a column of a table, so that the database finds rows faster.",
    ),
    ("盐为什么能融化冰？", "Salt lowers the freezing point of water, which is why it melts the ice on winter roads."),
    ("莎士比亚写了哪些作品？", "Shakespeare wrote plays such as Hamlet, Macbeth and Romeo and Juliet."),
    ("怎样照顾室内植物？", "House plants want light by a window and water only when the soil feels dry."),
    ("飞机为什么能飞？", "The wings of an aeroplane push air down, and the air pushes the plane up: that is lift."),
    ("学习吉他要从哪里开始？", "Beginners on the guitar first learn three chords and change between them slowly."),
    ("彩虹是如何形成的？", "A rainbow appears when drops of rain bend sunlight and split it into its colours."),
    ("怎样申请护照？", "To apply for a passport, bring a photograph and your birth certificate to the office."),
    ("糖尿病有哪些症状？", "Thirst, tiredness and frequent urination are signs of diabetes."),
    ("电动汽车充电要多久？", "Charging an electric car takes half an hour at a fast charger and a night at home."),
    ("恐龙为什么灭绝？", "The dinosaurs died out after an asteroid hit the Earth sixty-six million years ago."),
    ("如何缓解背痛？", "Back pain often gets better by walking, stretching and not sitting for hours."),
]
