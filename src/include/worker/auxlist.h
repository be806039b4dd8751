/*
 * auxlist.h
 *	  The auxiliary processes: AUXILIARY(symbol, name, main function).
 *
 *	void main_fn(const AuxiliaryStart *start)   never returns
 *
 * The name shows in log lines and, behind "clav ", in top (15 bytes at most
 * with that).  regress/lib/claviger.py knows these names: they are no
 * backends.  No include guard: expanded where needed.
 */
AUXILIARY(AUX_LESSOR, "lessor", LessorMain)
AUXILIARY(AUX_COMPACTOR, "compactor", CompactorMain)
