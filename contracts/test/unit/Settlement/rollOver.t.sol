// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";
import {SettlementClaimVerifierPay} from "./claimVerifierPay.t.sol";

abstract contract SettlementRollOver is SettlementClaimVerifierPay {
    function test_rollOver__nobody_posted__moves_the_pot() public {
        uint64 epoch = _earn();
        vm.expectRevert(abi.encodeWithSelector(ISettlement.EpochOpen.selector, epoch));
        settlement.rollOver(epoch);
        skip(40);
        settlement.rollOver(epoch);
        assertEq(settlement.pot(epoch), 0);
        assertEq(settlement.pot(verifiers.currentEpoch()), 0.5 ether);
    }

    function test_rollOver__somebody_posted__reverts() public {
        uint64 epoch = _earn();
        skip(10);
        _post(0, epoch);
        skip(40);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotOnDuty.selector, address(0), epoch));
        settlement.rollOver(epoch);
    }
}
