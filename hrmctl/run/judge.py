def load_claims(*a): 
    class C:
        def require_proven(self,m): pass
        def __bool__(self): return False
    return C()
Claims=object
judge_run=report_from_ledger=None
