from fse.preprocessing.crop_plan import crop_names


def test_crop_names_are_flat_safe_and_distinct() -> None:
    sources = ["a/b.jpg", "c d.png", "ä.jpg", "ö.jpg", "x.jpg", "x.png", "A_B.jpg", "q" * 300 + ".jpg", "e.f.jpg"]
    names = crop_names(sources, "png")
    assert len({name.lower() for name in names}) == len(sources)
    assert names[1] == "c_d.png"
    assert names[8] == "e.f.png"
    assert names[0].startswith("a_b-")
    assert all(len(name) < 130 and name.isascii() if hasattr(name, "isascii") else True for name in names)
    again = crop_names(sources[::-1], "png")[::-1]
    assert names == again
