"""Japanese words. Our own lists; nouns with their English meaning."""

from __future__ import annotations

from ..tables import mapped

NOUNS = mapped("""
    ボール:ball 球:ball 玉:ball 立方体:cube キューブ:cube 箱:box 円錐:cone 円柱:toy ピラミッド:toy 三角形:toy
    星:star 四角:toy サイコロ:die
    猫:cat ネコ:cat ねこ:cat 子猫:kitten 黒猫:cat 白猫:cat 犬:dog イヌ:dog いぬ:dog 子犬:puppy 馬:horse 牛:cow
    羊:sheep ヤギ:goat 豚:pig 鶏:chicken ニワトリ:chicken アヒル:duck カモ:duck
    鳥:bird 小鳥:bird フクロウ:owl 鷲:eagle カモメ:seagull オウム:parrot ウサギ:rabbit うさぎ:rabbit 兎:rabbit
    ネズミ:mouse キツネ:fox 狐:fox オオカミ:wolf 狼:wolf クマ:bear 熊:bear パンダ:panda
    鹿:deer ライオン:lion トラ:tiger 虎:tiger ゾウ:elephant 象:elephant キリン:giraffe シマウマ:zebra サル:monkey
    猿:monkey ペンギン:penguin 魚:fish 金魚:goldfish クジラ:whale イルカ:dolphin
    カエル:frog 蛇:snake ヘビ:snake カメ:turtle 亀:turtle 蝶:butterfly 蜂:bee 竜:dragon 龍:dragon ドラゴン:dragon
    ユニコーン:unicorn リス:squirrel 白鳥:swan テディベア:doll ぬいぐるみ:doll 鯉:fish 鶴:crane
    人:person 男:man 男性:man 女:woman 女性:woman 男の子:boy 女の子:girl 少年:boy 少女:girl 子供:child 子ども:child
    赤ちゃん:baby 老人:man おじいさん:man おばあさん:grandmother 王様:king 女王:queen
    騎士:knight 姫:princess 王子:prince 魔法使い:wizard 魔女:witch ロボット:robot 宇宙飛行士:astronaut 兵士:soldier
    侍:samurai 忍者:ninja 農夫:farmer 料理人:chef シェフ:chef 先生:teacher 医者:doctor
    漁師:fisherman 画家:painter 踊り子:dancer ピエロ:clown 海賊:pirate 雪だるま:snowman 学生:student 舞妓:dancer
    芸者:woman
    机:desk テーブル:table 食卓:table 椅子:chair いす:chair イス:chair ソファ:sofa ソファー:sofa ベッド:bed 棚:shelf
    本棚:bookshelf ランプ:lamp 灯り:lamp 街灯:lamppost 提灯:lamp ろうそく:candle キャンドル:candle 花瓶:vase
    カップ:cup コップ:cup ティーカップ:cup マグカップ:mug グラス:glass 瓶:bottle ボトル:bottle ビン:bottle 皿:plate
    お皿:plate ボウル:bowl 茶碗:bowl かご:basket バスケット:basket 籠:basket 鍋:pot ポット:pot やかん:kettle
    急須:teapot
    バケツ:bucket スプーン:spoon フォーク:fork ナイフ:knife 本:book 眼鏡:glasses メガネ:glasses 時計:clock 鏡:mirror
    絨毯:carpet カーペット:carpet カーテン:curtain 枕:pillow クッション:pillow 毛布:blanket
    ベンチ:bench ドア:door 扉:door 窓:window 屋根:roof 壁:wall 柵:fence フェンス:fence 門:gate 鳥居:gate
    はしご:ladder 鍵:key スーツケース:suitcase かばん:bag 鞄:bag バッグ:bag リュック:backpack 傘:umbrella
    パラソル:umbrella
    帽子:hat ヘルメット:helmet 王冠:crown マフラー:scarf ドレス:dress ワンピース:dress シャツ:shirt コート:coat
    ジャケット:jacket ズボン:trousers スカート:skirt 靴:shoe ブーツ:boot 手袋:glove セーター:sweater 着物:kimono
    浴衣:kimono リボン:ribbon 首輪:collar サングラス:sunglasses
    人形:doll おもちゃ:toy 風船:balloon 凧:kite プレゼント:box ギター:guitar ピアノ:piano バイオリン:violin
    太鼓:drum パソコン:computer 電話:phone 看板:sign 気球:airship 熱気球:airship
    車:car 自動車:car タクシー:taxi バス:coach トラック:truck 自転車:bicycle バイク:motorcycle 電車:train 列車:train
    汽車:train 飛行機:plane ヘリコプター:helicopter 船:boat ボート:boat 小舟:boat 帆船:sailboat ヨット:sailboat
    トラクター:tractor ロケット:rocket テント:tent
    家:house 小屋:hut 塔:tower タワー:tower 城:castle お城:castle 教会:church 橋:bridge 納屋:barn 風車:windmill
    灯台:lighthouse ビル:tower 建物:tower 寺:temple 神社:temple 噴水:fountain 像:statue 学校:school
    木:tree 大木:tree 樹:tree ヤシの木:palm 桜の木:tree 松の木:pine 松:pine 茂み:bush 花:flower バラ:rose 薔薇:rose
    チューリップ:tulip ひまわり:sunflower 葉:leaf きのこ:mushroom キノコ:mushroom サボテン:cactus 石:stone
    岩:boulder
    枝:branch 植物:plant 鉢植え:plant 貝殻:shell 竹:bamboo 桜:tree
    りんご:apple リンゴ:apple 梨:pear バナナ:banana オレンジ:orange みかん:orange レモン:lemon さくらんぼ:cherry
    いちご:strawberry イチゴ:strawberry ぶどう:fruit スイカ:melon 桃:peach トマト:tomato かぼちゃ:pumpkin
    ケーキ:cake パン:loaf 卵:egg チーズ:cheese コーヒー:coffee お茶:tea 牛乳:milk 水:water 果物:fruit クッキー:cookie
    ビーチ:beach 海岸:coast 砂浜:beach 浜辺:beach 海辺:seaside 海:sea 海面:sea 湖:lake 湖畔:lakeside 川:river
    川辺:riverside 池:pond 港:harbor 島:island 砂漠:desert 草原:prairie 芝生:lawn 草地:grass 草:grass 野原:field
    畑:field
    庭:garden 庭園:garden 公園:park 森:forest 林:woods 竹林:forest ジャングル:jungle 谷:valley 通り:street 道:path
    道路:road 街:town 歩道:sidewalk 広場:square 市場:market 町:town 都市:city 村:town 部屋:room 居間:room
    リビング:room リビングルーム:room 台所:kitchen キッチン:kitchen 寝室:bedroom 浴室:bathroom オフィス:office
    教室:classroom 図書館:library レストラン:restaurant カフェ:café 喫茶店:café 駅:station 農場:farm 牧場:farm
    動物園:zoo 空:sky 青空:sky 夜空:sky 宇宙:space 床:floor 地面:ground 背景:background 雪:snow 雪原:snow
    雪の中:snow 氷:ice 風景:landscape 洞窟:cave 山:mountain 雪山:mountain 富士山:mountain 丘:hill ベランダ:balcony
    バルコニー:balcony
    舞台:stage ステージ:stage プール:pool 窓辺:windowsill カウンター:counter 階段:stairs 雲:cloud 月:moon 太陽:sun
    虹:arch 牧草地:pasture 田んぼ:field 縁側:porch 和室:room 路地:alley
    髪:hair 長い髪:hair ひげ:beard 目:eyes 翼:wings しっぽ:tail 耳:ears 手:hand 頭:head 煙突:chimney
""")
COLOURS = "赤い 青い 黒い 白い 黄色い 茶色い 赤 青 黒 白 緑 黄色 紫 ピンク 茶色 灰色 金色 銀色 水色 オレンジ色 緑色 赤色 青色 紫色 桃色 グレー 白黒".split()
ADJECTIVES = """
大きな 小さな 大きい 小さい 古い 新しい 高い 低い 長い 短い 丸い 四角い 若い 美しい 可愛い かわいい 明るい 暗い
静かな 綺麗な きれいな 巨大な 賑やかな 空の 木製の 深い 細い 太い 薄い 濃い 老いた 年老いた
鮮やかな 穏やかな 眠そうな 幸せそうな 晴れた 雪の積もった 満開の ふわふわの ふわふわした
""".split()
NUMBERS = {"一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "十": 10}
COUNTERS = "つ 個 匹 頭 羽 人 本 枚 台 冊 軒 隻 杯 足 艘 両 棟 機 輪 名 体 株 脚 膳 着 丁 皿".split()
WHOLE_NUMBERS = {"ひとつ": 1, "ふたつ": 2, "みっつ": 3, "よっつ": 4, "いつつ": 5, "ひとり": 1, "ふたり": 2}
VAGUE = {
    "いくつかの": 3,
    "いくつか": 3,
    "たくさんの": 5,
    "たくさん": 5,
    "数匹の": 3,
    "数人の": 3,
    "数本の": 3,
    "数羽の": 3,
    "多くの": 5,
    "複数の": 3,
}
PLACES_AFTER = {
    "上": "on", "上方": "above", "真上": "above", "中": "in", "前": "front", "手前": "front", "正面": "front", "後ろ": "behind", "うしろ": "behind",
    "裏": "behind", "向こう": "behind", "奥": "behind", "下": "under", "真下": "under", "隣": "beside", "となり": "beside", "横": "beside",
    "そば": "beside", "傍": "beside", "近く": "beside", "脇": "beside", "左": "beside", "右": "beside", "左側": "beside", "右側": "beside",
    "間": "between", "あいだ": "between", "周り": "beside", "まわり": "beside", "ほとり": "beside", "上空": "above",
}  # fmt: skip
SPOTS = {"左": "left", "左側": "left", "右": "right", "右側": "right", "中央": "middle", "真ん中": "middle", "左上": "top left", "右上": "top right",
         "左下": "bottom left", "右下": "bottom right", "手前": "foreground", "遠く": "background", "奥": "background",
         "前景": "foreground"}  # fmt: skip
MOODS = "夕暮れ 夕焼け 夕方 日没 日の出 夜 夜明け 朝 昼間 昼 雨の中 雨 霧の中 雪の日 冬 夏 秋 春 月明かり 夕日 雨の日 晴れた日 黄昏".split()
STYLES = "油絵 写真 イラスト 水彩画 スケッチ 絵 画像 肖像画 高画質 高精細 写実的 アニメ風 水墨画 浮世絵 浮世絵風 最高品質 傑作 映画のような照明".split()
HOLDING = "着 かぶ 被 持 履 はい 飲 食べ 読 弾 抱え 抱い さし 差 くわえ かけ 乗っ 背負 つけ 着け 身につけ 運 吹".split()
DOING = """
座 立 寝 眠 置かれ 置い ある いる います あります い 浮か 浮い 飛 走 歩 泳 遊 咲 止ま 停ま 駐車し 横たわ 横になっ 並
見 見つめ 眺め 追いかけ 登 踊 歌 笑 燃え 輝 光 生え 建 建っ 掛か 掛けられ 吊る くつろ 休 跳 待 昼寝し 描い
乗って のっ 入っ 散歩し 停車し 寄りかか 立てかけられ 座り 立ち
""".split()
EMPTY = """
って っている っています っていて って、 った った んで んでいる んでいます いて いている いています ています ている
ていて て た てい います いる いた あり ある あります です だ である した している しています し られ れ れた
れている
んだ いだ る く そして また とても 様子 ところ 風景画 その それ そこ き けて けている りして げて りながら ながら
""".split()


def _dictionary() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    kinds = (
        ("empty", EMPTY), ("doing", DOING), ("holding", HOLDING), ("style", STYLES), ("adjective", ADJECTIVES), ("adjective", COLOURS),
    )  # fmt: skip
    for kind, listed in kinds:
        found.update({word: (kind, "") for word in listed})
    found |= {word: ("noun", meaning) for word, meaning in NOUNS.items()}
    found |= {word: ("mood", "") for word in MOODS}
    found |= {word: ("spot", spot) for word, spot in SPOTS.items()}
    found |= {word: ("after", relation) for word, relation in PLACES_AFTER.items()}
    for word, n in [
        *NUMBERS.items(),
        *((str(n), n) for n in range(1, 100)),
        *((chr(0xFF10 + n), n) for n in range(1, 10)),
    ]:
        found |= {word + counter: ("number", str(n)) for counter in COUNTERS}
    found |= {word: ("number", str(n)) for word, n in WHOLE_NUMBERS.items()}
    found |= {word: ("vague", str(n)) for word, n in VAGUE.items()}
    found |= {"の": ("of", ""), "は": ("mark", ""), "が": ("mark", ""), "も": ("mark", ""), "を": ("object", ""), "に": ("at", ""), "で": ("at", ""),
              "には": ("at", ""), "では": ("at", ""), "にある": ("at", ""), "にいる": ("at", ""), "と": ("and", ""), "や": ("and", ""),
              "へ": ("at", ""), "から": ("empty", ""), "な": ("empty", ""), "による": ("empty", ""), "一緒に": ("empty", ""),
              "背景に": ("spot", "background"), "背景には": ("spot", "background")}  # fmt: skip
    return found


DICTIONARY = _dictionary()
