"""Chinese words. Our own lists; nouns with their English meaning."""

from __future__ import annotations

from ..tables import mapped

NOUNS = mapped("""
    球:ball 皮球:ball 足球:ball 篮球:ball 立方体:cube 方块:cube 正方体:cube 圆锥:cone 圆锥体:cone 圆柱:toy
    圆柱体:toy 金字塔:toy 球体:ball 三角形:toy 圆形:toy 星星:star
    猫:cat 小猫:kitten 猫咪:cat 狗:dog 小狗:puppy 马:horse 牛:cow 奶牛:cow 羊:sheep 绵羊:sheep 山羊:goat 猪:pig
    鸡:chicken 公鸡:rooster 母鸡:hen 鸭子:duck 鸭:duck
    鹅:goose 鸟:bird 小鸟:bird 猫头鹰:owl 鹰:eagle 老鹰:eagle 海鸥:seagull 鹦鹉:parrot 兔子:rabbit 兔:rabbit
    老鼠:mouse 狐狸:fox 狼:wolf 熊:bear 熊猫:panda 泰迪熊:doll
    鹿:deer 狮子:lion 老虎:tiger 大象:elephant 长颈鹿:giraffe 斑马:zebra 猴子:monkey 企鹅:penguin 鱼:fish
    金鱼:goldfish 鲸鱼:whale 海豚:dolphin 青蛙:frog 蛇:snake
    乌龟:turtle 海龟:turtle 蝴蝶:butterfly 蜜蜂:bee 龙:dragon 独角兽:unicorn 松鼠:squirrel 天鹅:swan 鹤:crane
    骆驼:camel
    人:person 男人:man 女人:woman 男孩:boy 女孩:girl 小男孩:boy 小女孩:girl 孩子:child 小孩:child 婴儿:baby 老人:man
    老爷爷:man 老奶奶:grandmother 少女:girl 男子:man
    女子:woman 国王:king 王后:queen 骑士:knight 公主:princess 王子:prince 巫师:wizard 女巫:witch 机器人:robot
    宇航员:astronaut 士兵:soldier 武士:samurai 农民:farmer
    厨师:chef 老师:teacher 医生:doctor 渔夫:fisherman 舞者:dancer 画家:painter 小丑:clown 海盗:pirate 雪人:snowman
    学生:student 音乐家:musician
    桌子:table 木桌:table 餐桌:table 书桌:desk 椅子:chair 沙发:sofa 扶手椅:armchair 床:bed 柜子:wardrobe
    书架:bookshelf 架子:shelf 灯:lamp 台灯:lamp 路灯:lamppost 灯笼:lamp
    蜡烛:candle 花瓶:vase 杯子:cup 茶杯:cup 咖啡杯:cup 杯:cup 玻璃杯:glass 瓶子:bottle 酒瓶:bottle 盘子:plate
    碗:bowl 篮子:basket 箱子:box 盒子:box 锅:pot 茶壶:teapot 壶:jug 桶:bucket
    勺子:spoon 叉子:fork 刀:knife 刀子:knife 书:book 书本:book 眼镜:glasses 钟:clock 时钟:clock 手表:watch
    镜子:mirror 地毯:carpet 窗帘:curtain 枕头:pillow 毯子:blanket
    长椅:bench 长凳:bench 门:door 窗户:window 窗:window 屋顶:roof 墙:wall 墙壁:wall 栅栏:fence 围栏:fence
    梯子:ladder 钥匙:key 行李箱:suitcase 包:bag 背包:backpack 伞:umbrella
    雨伞:umbrella 遮阳伞:umbrella 帽子:hat 头盔:helmet 皇冠:crown 围巾:scarf 裙子:dress 连衣裙:dress 衬衫:shirt
    外套:coat 裤子:trousers 鞋:shoe 鞋子:shoe 靴子:boot 手套:glove 毛衣:sweater
    和服:kimono 汉服:dress 项链:necklace 蝴蝶结:bow 项圈:collar
    娃娃:doll 玩具:toy 气球:balloon 风筝:kite 礼物:box 礼盒:box 吉他:guitar 钢琴:piano 小提琴:violin 鼓:drum
    电脑:computer 笔记本电脑:laptop 手机:phone 牌子:sign 招牌:sign 热气球:airship
    汽车:car 车:car 轿车:car 跑车:car 出租车:taxi 公交车:coach 巴士:coach 卡车:truck 自行车:bicycle
    摩托车:motorcycle 火车:train 飞机:plane 直升机:helicopter 船:boat 小船:boat 帆船:sailboat
    拖拉机:tractor 火箭:rocket 帐篷:tent 飞船:airship
    房子:house 房屋:house 小屋:hut 木屋:hut 塔:tower 高塔:tower 城堡:castle 教堂:church 桥:bridge 谷仓:barn
    风车:windmill 灯塔:lighthouse 高楼:tower 大楼:tower 寺庙:temple 喷泉:fountain 雕像:statue
    学校:school 亭子:hut
    树:tree 大树:tree 树木:tree 棕榈树:palm 椰子树:palm 松树:pine 樱花树:tree 灌木:bush 花:flower 花朵:flower
    鲜花:flower 玫瑰:rose 玫瑰花:rose 郁金香:tulip 向日葵:sunflower 叶子:leaf 蘑菇:mushroom
    仙人掌:cactus 石头:stone 岩石:boulder 树枝:branch 植物:plant 盆栽:plant 贝壳:shell 竹子:bamboo 荷花:flower
    苹果:apple 梨:pear 香蕉:banana 橙子:orange 柠檬:lemon 樱桃:cherry 草莓:strawberry 葡萄:fruit 西瓜:melon
    桃子:peach 番茄:tomato 南瓜:pumpkin 蛋糕:cake 面包:loaf 鸡蛋:egg 奶酪:cheese 咖啡:coffee
    茶:tea 牛奶:milk 水:water 水果:fruit 饼干:cookie
    沙滩:beach 海滩:beach 海边:seaside 大海:sea 海:sea 海洋:ocean 海面:sea 湖:lake 湖泊:lake 湖面:lake 湖边:lakeside
    河:river 河流:river 小河:river 河边:riverside 池塘:pond 海岸:coast 港口:harbor 岛:island 沙漠:desert
    草地:grass 草坪:lawn 草原:prairie 田野:field 花园:garden 公园:park 森林:forest 树林:woods 竹林:forest
    丛林:jungle 山谷:valley 街道:street 街:street 街上:street 马路:road 公路:road 道路:road 小路:path
    人行道:sidewalk
    广场:square 市场:market 城市:city 村庄:town 房间:room 客厅:room 厨房:kitchen 卧室:bedroom 浴室:bathroom
    办公室:office 教室:classroom 图书馆:library 餐厅:restaurant 咖啡馆:café 车站:station 农场:farm
    院子:yard 庭院:courtyard 动物园:zoo 天空:sky 蓝天:sky 夜空:sky 太空:space 宇宙:universe 地板:floor 木地板:floor
    地面:ground 地上:ground 背景:background 雪地:snow 冰面:ice 风景:landscape 洞穴:cave 山洞:cave
    山:mountain 雪山:mountain 高山:mountain 群山:mountains 远山:mountain 山丘:hill 小山:hill 山坡:hillside
    阳台:balcony 舞台:stage 泳池:pool 游泳池:pool 窗台:windowsill 柜台:counter 台阶:stairs 楼梯:stairs 云:cloud
    云朵:cloud 白云:cloud
    月亮:moon 月球:moon 太阳:sun 彩虹:arch 雪:snow 沙子:sand
    头发:hair 长发:hair 短发:hair 胡子:beard 眼睛:eyes 翅膀:wings 尾巴:tail 耳朵:ears 手:hand 头:head 烟囱:chimney
""")
COLOURS = "红色 蓝色 绿色 黄色 橙色 紫色 粉色 粉红色 棕色 褐色 黑色 白色 灰色 金色 银色 红 蓝 绿 黄 橙 紫 粉 棕 黑 白 灰 金 银 深蓝色 浅蓝色 橘色 彩色 米色 青色 黑白".split()
ADJECTIVES = """
大 小 高 矮 长 短 老 旧 新 年轻 古老 巨大 高大 美丽 漂亮 可爱 圆 圆形 方形 木 木制 木头 金属 玻璃 塑料 石 石头 空 满
破旧 明亮 昏暗 闪亮 平静 安静 繁忙 热闹 茂密 巨型 毛茸茸 胖 瘦 帅气 开心 快乐 悲伤 橘
""".split()
NUMBERS = {
    "一": 1,
    "两": 2,
    "二": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
    "十": 10,
    "十一": 11,
    "十二": 12,
    "俩": 2,
}
VAGUE = {
    "几": 3,
    "一些": 3,
    "许多": 5,
    "很多": 5,
    "数": 3,
    "好几": 3,
    "若干": 3,
    "一群": 1,
    "一束": 1,
    "一堆": 1,
    "一排": 1,
}
MEASURES = "个 只 条 头 匹 辆 艘 架 座 栋 间 棵 朵 张 把 本 杯 瓶 碗 盘 位 名 件 块 颗 根 支 枝 台 幅 顶 双 盏 盆 片 串 束 篮 尊 面 扇 群 排 堆 壶 份 轮 枚 株 幢 所 口 袋 锅 首 隻 個 对".split()
PLACES_AFTER = {  # 上 after a noun: its relation
    "上面": "on", "上": "on", "之上": "on", "顶上": "on", "上方": "above", "里面": "in", "里": "in", "中": "in", "内": "in", "当中": "in",
    "之中": "in", "前面": "front", "前": "front", "前方": "front", "之前": "front", "跟前": "front", "脚下": "front", "后面": "behind", "后": "behind",
    "后方": "behind", "背后": "behind", "身后": "behind", "之后": "behind", "下面": "under", "下": "under", "下方": "under", "底下": "under",
    "之下": "under", "旁边": "beside", "旁": "beside", "边上": "beside", "边": "beside", "附近": "beside", "身边": "beside", "左边": "beside",
    "右边": "beside", "左侧": "beside", "右侧": "beside", "之间": "between", "中间": "between", "周围": "beside", "对面": "beside",
    "一旁": "beside",
}  # fmt: skip
SPOTS = {"左边": "left", "右边": "right", "左侧": "left", "右侧": "right", "中间": "middle", "中央": "middle", "画面左侧": "left", "画面右侧": "right",
         "画面中央": "middle", "画面左边": "left", "画面右边": "right", "左上角": "top left", "右上角": "top right", "左下角": "bottom left",
         "右下角": "bottom right", "前景中": "foreground", "前景": "foreground", "远处": "background", "远方": "background", "背景中": "background",
         "背景里": "background"}  # fmt: skip
MOODS = "日落时分 日落时 日落 日出时 日出 黄昏时分 黄昏时 黄昏 傍晚 夜晚 夜里 晚上 夜间 清晨 早晨 早上 中午 雨中 雨天 下雨天 雪中 下雪天 雾中 冬天 夏天 秋天 春天 夕阳下 月光下 阳光下 星空下 雨夜 黎明 晴天".split()
STYLES = """
油画 照片 图片 插画 水彩画 素描 画 图画 肖像 肖像画 特写 高清 超高清 细节丰富 写实 写实风格 卡通风格 水墨画 国画
动漫风格 电影感 电影光效 最佳质量 高质量 杰作 4K 8K 4k 8k 赛博朋克风格 油画风格 摄影 摄影作品
""".split()
AND = "和 与 跟 以及 及 还有 并且 而".split()
HOLDING = "穿着 穿 戴着 戴 拿着 拿 抱着 抱 举着 举 撑着 打着 骑着 骑 弹着 弹 读着 读 看着书 喝着 喝 吃着 吃 背着 提着 握着 叼着 带着 装着 装满 盛满 长着 留着 拉着 牵着 吹着 开着 披着".split()
STAYING = "坐 站 躺 放 停 趴 蹲 挂 摆 立 漂浮 漂 靠 倚 长 飘 位于 停放 摆放 放置 悬挂 矗立 耸立 种".split()
DOING = "飞 跑 走 睡 睡觉 奔跑 游 游泳 玩 玩耍 跳 跳舞 唱歌 飞翔 飞行 散步 休息 盛开 追 追逐 追赶 看 看着 望着 行驶 航行 工作 微笑 燃烧 发光 吃草 走过 穿过 玩球 晒太阳 打盹 看书 读书 钓鱼 滑雪 做饭".split()
LEADS = "画 请画 生成 请生成 创建 想象 绘制 请绘制 画一下 展示 描绘 帮我画".split()
EMPTY = "正在 正 着 了 地 也 都 就 还 很 非常 分别 各 共 被 它 它们 他 她 他们 显示 一起 安静地 静静地 静静".split()


def _dictionary() -> dict[str, tuple[str, str]]:
    """Later entries win where a word has two uses: "红" a colour, "一" a number."""
    found: dict[str, tuple[str, str]] = {}
    kinds = (
        ("empty", EMPTY), ("measure", MEASURES), ("doing", DOING), ("staying", STAYING), ("holding", HOLDING), ("and", AND),
        ("adjective", ADJECTIVES), ("adjective", COLOURS), ("mood", MOODS), ("style", STYLES),
    )  # fmt: skip
    for kind, listed in kinds:
        found.update({word: (kind, "") for word in listed})
    found |= {word: ("noun", meaning) for word, meaning in NOUNS.items()}
    found |= {word: ("number", str(n)) for word, n in NUMBERS.items()}
    found |= {str(n): ("number", str(n)) for n in range(1, 100)}
    found |= {word: ("vague", str(n)) for word, n in VAGUE.items()}
    found |= {word: ("spot", spot) for word, spot in SPOTS.items()}
    found |= {word: ("after", relation) for word, relation in PLACES_AFTER.items()}
    found |= {"在": ("at", ""), "有": ("have", ""), "是": ("be", ""), "为": ("be", ""), "的": ("of", ""), "以": ("by", ""), "带": ("have", ""),
              "带有": ("have", ""), "位于": ("at", ""), "这": ("this", ""), "那": ("this", ""), "另": ("this", ""), "从": ("empty", ""),
              "画着": ("have", ""), "长满": ("have", "")}  # fmt: skip
    return found


DICTIONARY = _dictionary()
