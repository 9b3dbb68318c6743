"""Which exercises are right, tried or open: `python -m aecourse.exercises`."""

import importlib
import pkgutil

from aecourse import exercises
from aecourse.data import store


def main():
    kept, all_states = exercises.progress(), []
    names = [module.name for module in pkgutil.iter_modules(exercises.__path__)]
    for lesson in sorted(name for name in names if name.startswith("lesson_")):
        module, row = importlib.import_module(f"{exercises.__name__}.{lesson}"), []
        for name, value in vars(module).items():
            if isinstance(value, exercises.Exercise):
                all_states.append(kept.get(lesson, {}).get(name, "open"))
                row.append(f"{name}: {all_states[-1]}")
        print(f"{lesson.removeprefix('lesson_')}   {', '.join(row)}")
    counts = ", ".join(f"{all_states.count(state)} {state}" for state in ("right", "tried", "open"))
    print(f"\n{counts}. Kept in {store.folder() / 'progress.json'}, sent nowhere.")


if __name__ == "__main__":
    main()
