"""Asks the real libpq how it reads connection strings.

In: a JSON array of strings. Out: for each, an object of the keywords that PQconninfoParse set, or null where it refused
the string or a value is not UTF-8.
"""

import ctypes
import json
import sys


class Option(ctypes.Structure):
    _fields_ = [
        ("keyword", ctypes.c_char_p),
        ("envvar", ctypes.c_char_p),
        ("compiled", ctypes.c_char_p),
        ("val", ctypes.c_char_p),
        ("label", ctypes.c_char_p),
        ("dispchar", ctypes.c_char_p),
        ("dispsize", ctypes.c_int),
    ]


libpq = ctypes.CDLL("libpq.so.5")
libpq.PQconninfoParse.restype = ctypes.POINTER(Option)
libpq.PQconninfoParse.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
libpq.PQconninfoFree.argtypes = [ctypes.POINTER(Option)]


def parse(text):
    options = libpq.PQconninfoParse(text.encode(), None)
    if not options:
        return None
    try:
        found = {}
        index = 0
        while options[index].keyword is not None:
            if options[index].val is not None:
                found[options[index].keyword.decode()] = options[index].val.decode()
            index += 1
        return found
    except UnicodeDecodeError:
        return None
    finally:
        libpq.PQconninfoFree(options)


json.dump([parse(text) for text in json.load(sys.stdin)], sys.stdout)
