// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract DisputesSetParameters is Network {
    function _try(IDisputes.Parameters memory p) private {
        vm.prank(address(timelock));
        vm.expectRevert(IDisputes.BadParameters.selector);
        disputes.setParameters(p);
    }

    function test_setParameters__by_governance__never_touches_an_open_dispute() public {
        _joinAll();
        _disputed(10 ether);
        IDisputes.Parameters memory p = disputes.parameters();
        p.bond = 1 ether;
        p.judgesFee = 1 ether;
        p.verdictPeriod = 500;
        _govern(address(disputes), abi.encodeCall(disputes.setParameters, (p)));
        assertEq(disputes.parameters().bond, 1 ether);
        assertEq(disputes.parametersAt(disputes.dispute(1).version).bond, BOND);
    }

    function test_setParameters__out_of_bounds__reverts() public {
        IDisputes.Parameters memory p = _disputeParameters();
        p.judgesFee = BOND + 1;
        _try(p);
        p = _disputeParameters();
        p.appealFee = APPEAL_BOND + 1;
        _try(p);
        p = _disputeParameters();
        p.appealBond = BOND - 1;
        p.appealFee = 0;
        _try(p);
        p = _disputeParameters();
        (p.bond, p.judgesFee) = (0, 0);
        _try(p);
        p = _disputeParameters();
        p.slashBps = 10_001;
        _try(p);
        p = _disputeParameters();
        p.smallNetworkSlashBps = 501;
        _try(p);
        p = _disputeParameters();
        p.challengerBps = 5_001;
        _try(p);
        p = _disputeParameters();
        p.evidencePeriod = p.verdictPeriod;
        _try(p);
        p = _disputeParameters();
        p.appealPeriod = 0;
        _try(p);
        p = _disputeParameters();
        p.disputeWindow = 0;
        _try(p);
    }
}
