"""Carrying out attempts of runs that other processes own.

:mod:`.guests` is what every process needs for that.
"""
