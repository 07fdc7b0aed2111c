// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsWithdraw is Planted {
    function test_withdraw__after_its_lifetime__returns_the_bounty_once() public {
        _note();
        vm.expectPartialRevert(IPlants.NotYet.selector);
        plants.withdraw(plantHash);
        skip(1_001);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotPlanter.selector, owner));
        plants.withdraw(plantHash);
        plants.withdraw(plantHash);
        assertEq(plants.ledger(), 0);
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotPlanter.selector, address(this)));
        plants.withdraw(plantHash);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyNoted.selector, plantHash));
        plants.note(plantHash);
    }

    function test_withdraw__of_an_opened_plant__reverts() public {
        _revealed(IPlants.Verdict.Pass);
        skip(1_001);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AnotherReceipt.selector, plantHash));
        plants.withdraw(plantHash);
    }
}
