# Copyright 2026 The hf_vq Authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What a word is, in any script, and the words of English that say nothing about a topic."""

# Python's \w leaves out the combining marks, without which words of Hindi, Thai or decomposed accents fall apart.
_MARKS = (
    r"\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"
    r"\u0900-\u0963\u0971-\u0df3\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc"
    r"\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3\u200c\u200d\ufe0f"
)
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"(?:[^\W\d_{_HAN}]|[{_MARKS}])"
_INSIDE = rf"(?:[^\W_{_HAN}]|[{_MARKS}])"
# At least two letters, digits and marks, the first no digit; Han characters, which are written
# without spaces, are a word each. An apostrophe parts words ("l'eau", "Anna's"), save in "don't".
DEFAULT_TOKEN_PATTERN = rf"{_LETTER}(?:{_INSIDE}|['’](?=[tT](?!{_INSIDE})))+|[{_HAN}]"

_NEGATED = "are can could did do does had has have is must need should was were wo would"
ENGLISH_STOP_WORDS = frozenset(
    """
    a about above across after afterwards again against all almost alone along already also
    although always am among an and another any anybody anyhow anyone anything anyway anyways
    anywhere are aren around as at away b back be became because become becomes been before
    beforehand behind being below beside besides between beyond both but by c came can cannot
    cant come comes could couldn d did didn do does doesn doing don done dont down during e each
    either else elsewhere enough especially etc even ever every everybody everyone everything
    everywhere except f far few for from further g gave get gets getting give given gives go
    goes going gone got gotten h had hadn happen happens has hasn have haven having he hence her
    here hers herself him himself his hither how however i ie if im in indeed instead into is
    isn it its itself ive j just k keep kept know known knows l last lately later least less
    lest let lets like likely ll m made make makes making many may maybe me meanwhile might mine
    more moreover most mostly much must my myself n namely near nearly neither never
    nevertheless next no nobody none nonetheless noone nor not nothing now nowhere o of off
    often oh ok okay on once one ones only onto or other others otherwise ought our ours
    ourselves out over own p per perhaps please possibly put q quite r rather re really
    regarding s said same saw say saying says see seem seemed seeming seems seen several shall
    she should shouldn since so some somebody somehow someone something sometime sometimes
    somewhat somewhere still such sure t take taken takes taking tell than that thats the their
    theirs them themselves then thence there thereafter thereby therefore therein these they
    thing things think this those though through throughout thus to together too took toward
    towards tried tries try trying u under unless unlike until up upon us use used uses using
    usually v various ve very via w want wanted wants was wasn way we well went were weren what
    whatever when whence whenever where whereas whereby wherein wherever whether which while
    whither who whoever whole whom whose why will with within without won wont would wouldn x y
    yeah yes yet you your youre yours yourself yourselves z
    """.split()
    + [f"{verb.removesuffix('n')}n't" for verb in _NEGATED.split()]
)

__all__ = ["DEFAULT_TOKEN_PATTERN", "ENGLISH_STOP_WORDS"]
