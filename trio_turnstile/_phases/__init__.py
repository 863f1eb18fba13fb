"""Operations in four phases, on the engine."""
