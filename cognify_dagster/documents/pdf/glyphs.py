"""Which code points the fonts in use can show. Hexadecimal, ranges inclusive.

`test_pdf.py` renders every one of them in all styles: a font that lacks one fails the test.
"""

from __future__ import annotations

#: Libertinus Serif (all styles in use) or DejaVu Sans Mono, as carried by typst 0.15.0; combining marks are left out.
CARRIED = (
    "20-7e a0-ac ae-241 243-245 247 249 24c-24d 250-2e9 2ec-2ee 2f3 374-377 37a-37f 384-38a 38c 38e-3a1 "
    "3a3-3ce 3d0-3e1 3f0-45f 462-463 470-477 490-4c4 4c7-4cc 4cf-4f9 510-511 51a-51d 531-556 559-55f 561-587 "
    "589-58a e3f e81-e82 e84 e87-e88 e8a e8d e94-e97 e99-e9f ea1-ea3 ea5 ea7 eaa-eab ead-eb0 eb2-eb3 "
    "10d0-10fc 1d02 1d08-1d09 1d14 1d16-1d17 1d1d-1d1f 1d2c-1d2e 1d30-1d3c 1d3e-1d5b 1d62-1d65 1d77-1d78 1d7b "
    "1d85 1d9b-1db7 1db9-1dbf 1e00-1e9b 1e9e-1ef9 1f00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b "
    "1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fc4 1fc6-1fd3 1fd6-1fdb 1fdd-1fef 1ff2-1ff4 1ff6-1ffe 2000-200a 2010-2027 "
    "202f-2037 2039-203f 2042 2044-204b 204f 205f 2070-2071 2074-208e 2090-209c 20a0-20b5 20b8-20ba 20bd 20bf "
    "2100-2103 2105-2106 2109 210c-210f 2111 2113 2115-2117 2119-211a 211c-211d 2120 2122 2124 2126-2127 "
    "212a-212b 212e 2135-2139 2148 2150-2151 2153-2184 2189 2190-2220 2223-222d 2234-223d 2241-226b 226d-228b "
    "228d-22a5 22b2-22b5 22b8 22c2-22c6 22cd-22d1 22da-22e9 22ef 2300-2306 2308-2315 2318-2319 231c-2321 "
    "2325-232b 2335-237a 237d 2380-2383 2388-238b 2395 239b-23ae 23ce-23cf 23d3 2423 2500-2600 2605 2619 261b "
    "261e 2627 262f 2638-2653 2660-2667 2669-266f 2695 2698 26a2-26a4 2767 27c2 27c5-27c6 27dc 27e0 27e6-27eb "
    "27f5-27f7 2987-2988 2997-2998 29eb 29fa-29fb 2a00 2a2f 2a6a-2a6b 2b05-2b0d 2b12-2b1a 2c60-2c70 2c74-2c77 "
    "2c79-2c7a 2c7c-2c7f 2e18 2e1f 2e22-2e25 2e2e a708-a716 a71b-a727 a789-a78e a790-a791 a7aa a7f8-a7f9 "
    "fb01-fb02 fffd "
)

#: The Noto fonts under `templates/fonts`: Arabic, Hebrew, Devanagari and Thai with their marks, and symbols.
SHIPPED = (
    "591-5c7 5d0-5ea 5f0-5f4 606-61b 61e-6dc 6de-6ff 750-77f 900-97f e01-e3a e40-e5b 2185-2188 218a-218b 2307 "
    "2316-2317 231a-231b 2322-2324 232c-2334 237b-237c 237e-237f 2384-2387 238c-2394 2396-239a 23af 23be-23cd "
    "23d0-23d2 23d4-23db 23e2-23ea 23ed-23ef 23f1-2422 2424-2426 2440-244a 2460-24ff 2601-2604 2606-2618 261a "
    "261c-261d 261f-2626 2628-262e 2630-2637 2654-265f 2668 2670-2694 2696-2697 2699-26a1 26a5-2704 2706-2709 "
    "270b-2727 2729-274b 274d 274f-2753 2756-2766 2768-2794 2798-27af 27b1-27be 2800-28ff 2921-2922 2981 29bf "
    "2b00-2b04 2b1b-2b2f 2b4d-2b73 2b76-2b95 2b97-2bfd 2bff "
)


def code_points(ranges: str) -> frozenset[int]:
    """Read ranges such as `20-7e a0`."""
    points: set[int] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(points)


#: Scripts that need the joiners U+200C and U+200D between two letters to be spelled correctly.
JOINING = code_points("620-64a 66e-6d3 750-77f 900-97f")
