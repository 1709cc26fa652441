"""The renderer of synthetic faces: what a face is, how it is drawn, and how it is photographed."""
