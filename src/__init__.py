"""clozelab: pretraining objectives in pure PyTorch, each with the tiny transformer that fits it.

A cloze is a text with blanks to fill in; every pretraining objective is one. Each answers three
questions, and the package has a room for each:

    what does it hide?      clozelab.data
    what may it read?       clozelab.models
    what must it predict?   clozelab.objectives

`clozelab.training` trains any of them on any corpus, `clozelab.evaluation` measures the result,
`clozelab.display` draws what was really fed to the model.
"""

__version__ = "0.1.0"
