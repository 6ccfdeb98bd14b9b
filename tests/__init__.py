"""The tests: the folders of spliceio/, and what they stand on in support/.

At the top is what holds for the whole: the layout, the documentation, all classes.
"""
