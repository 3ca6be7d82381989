"""Top-level domains that addresses are in: all countries', the generic ones in use, those set apart for examples.

The root zone has a thousand more, most of them brands; an address in one of those counts after a word like `mail`.
"""

from __future__ import annotations

_LISTED = (
    # IANA's root zone database: countries and territories
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd "
    "cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd "
    "ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg "
    "kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv "
    "mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa "
    "sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug "
    "uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw "
    # generic
    "com org net edu gov mil int info biz name pro aero coop museum jobs mobi travel tel cat asia post xxx arpa "
    "academy agency app art bank berlin bet bid bio blog build business cafe capital care center church city click "
    "cloud club codes coffee college community company computer consulting cool credit dance dental design dev digital "
    "direct directory doctor domains earth education email energy engineering enterprises events exchange expert farm "
    "finance fit foundation fun fund gallery games gift global gmbh group guide guru hamburg health help holdings "
    "hospital host hosting house ink institute insure international investments jetzt kim koeln land law legal life "
    "link live llc loan lol london love ltd management market marketing media money nyc one online ong page partners "
    "paris photo photography photos plus press productions realty rehab repair report rest restaurant review reviews "
    "rocks ruhr sale school science services shop site social software solutions space studio support systems tax team "
    "tech technology tips tools top town toys trade training university vegas ventures vet video vip wang wien wiki "
    "work works world wtf xyz yoga zone "
    # set apart for examples and for networks of one's own (RFC 2606, RFC 6762, ICANN's .internal)
    "example test invalid local lan home corp internal localdomain intranet private"
)
TOP_LEVELS = frozenset(_LISTED.split())
